// Messages that grow, are stopped, edited and erased in two windows of the console, with a kill -9 while they grow.

import assert from 'node:assert/strict';
import { openWindow, scenario, until } from './harness.mjs';

const CHANNEL = 'den';
const FIELDS = '{ id sequence revision complete content }';
const live = (page) => page.waitForFunction(() => document.body.dataset.state === 'live');
const row = (page, sequence) => page.locator('#timeline .message', { has: page.locator('.sequence', { hasText: new RegExp(`^${sequence}$`) }) });
const text = (page, sequence) => row(page, sequence).locator('.content').textContent();

/** A producer that continues after failures, as an agent does. An append can be sent again without a key. */
async function again(run) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (attempt === 600 || /MESSAGE_COMPLETE/.test(error.message)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

await scenario(async ({ server, browser }) => {
  const append = async (message, piece, complete = false) => {
    const query = `mutation ($id: ID!, $revision: Int!, $piece: String!, $complete: Boolean!) {
      appendToMessage(id: $id, revision: $revision, piece: $piece, complete: $complete) ${FIELDS}
    }`;
    const variables = { id: message.id, revision: message.revision, piece, complete };
    return again(async () => (await server.graphql(query, variables)).appendToMessage);
  };
  const begin = async (content) => {
    const query = `mutation ($content: String!) { postMessage(channelId: "${CHANNEL}", author: "scribe", content: $content, complete: false) ${FIELDS} }`;
    return (await server.graphql(query, { content })).postMessage;
  };

  await server.post({ channelId: CHANNEL, author: 'mara', content: 'before everything' });
  const here = await openWindow(browser, `${server.url}/?channel=${CHANNEL}`);
  const there = await openWindow(browser, `${server.url}/?channel=${CHANNEL}`, { colorScheme: 'dark' });
  const windows = [here, there];
  for (const page of windows) await live(page);

  // An answer grows in both windows, also through a kill -9. In the end it is exactly what was sent.
  let answer = await begin('Once');
  let whole = 'Once';
  for (let n = 1; n <= 60; n++) {
    if (n === 30) {
      await until('growing text', async () => (await text(here, 2)).includes('word-20'));
      assert.equal(await row(here, 2).locator('.growing').count(), 1);
      await server.kill();
      setTimeout(() => server.run(), 300);
    }
    const piece = ` word-${n}`;
    answer = await append(answer, piece, n === 60);
    whole += piece;
  }
  assert.equal(answer.content, whole);
  for (const page of windows) {
    await until('the whole answer', async () => (await text(page, 2)) === whole);
    await until('the end of growing', async () => (await row(page, 2).locator('.growing').count()) === 0);
  }

  // A window that is opened while a message grows shows what is there, and then the rest.
  answer = await begin('first');
  answer = await append(answer, ' second');
  const late = await openWindow(browser, `${server.url}/?channel=${CHANNEL}`);
  await until('what is there', async () => (await row(late, 3).count()) === 1 && (await text(late, 3)) === 'first second');
  answer = await append(answer, ' third');
  await until('the rest', async () => (await text(late, 3)) === 'first second third');

  // When one window stops the answer, the producer learns it with its next piece.
  await row(there, 3).locator('[data-action=stop]').click();
  await until('the stop in the other window', async () => (await row(here, 3).locator('.growing').count()) === 0);
  await assert.rejects(append(answer, ' fourth'), /MESSAGE_COMPLETE/);

  // An edit in one window is shown in the other. An edit that comes too late is refused, and the window says so.
  await row(here, 1).hover();
  await row(here, 1).locator('[data-action=edit]').click();
  await row(there, 1).hover();
  await row(there, 1).locator('[data-action=edit]').click();
  await row(here, 1).locator('textarea').fill('before everything, corrected');
  await row(here, 1).locator('textarea').press('Enter');
  await until('the edit', async () => (await text(here, 1)) === 'before everything, corrected');
  await row(there, 1).locator('textarea').fill('something else');
  await row(there, 1).locator('textarea').press('Enter');
  await there.locator('#problem', { hasText: 'Not done' }).waitFor();
  await row(there, 1).locator('[data-action=cancel]').click();
  await until('the edit, there', async () => (await text(there, 1)) === 'before everything, corrected');
  assert.equal(await row(there, 1).locator('.edited').count(), 1);

  // Erased for good, after a second click.
  await row(here, 1).hover();
  await row(here, 1).locator('[data-action=erase]').click();
  await row(here, 1).locator('[data-action=erase]', { hasText: 'for good' }).click();
  for (const page of [...windows, late]) {
    await row(page, 1).locator('.erased').waitFor();
    assert.ok(!(await page.content()).includes('before everything'));
  }
  for (const page of [...windows, late]) assert.deepEqual(page.faults, []);
});
