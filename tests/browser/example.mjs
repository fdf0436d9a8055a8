// An example app (argument: its folder in examples/) in two windows, built and served by Vite: older pages, posts, and a
// kill -9 while messages come. No message is missing and none is there twice.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { openWindow, preview, scenario, until } from './harness.mjs';

const [app] = process.argv.slice(2);
const CHANNEL = 'den';
const FEW = 120;
const STREAM = 1000;
const KILL_AT = [200, 500, 800];
const POST = `mutation ($content: String!, $key: String!) {
  postMessage(channelId: "${CHANNEL}", author: "stream", content: $content, idempotencyKey: $key) { sequence }
}`;

/** Posts until it is answered, also if the server is killed in between. The key makes it one message. */
async function postThrough(server, content) {
  for (;;) {
    try {
      return await server.graphql(POST, { content, key: content });
    } catch {
      await sleep(50);
    }
  }
}

const rows = (page) => page.$$eval('.message', (rows) => rows.map((row) => [row.querySelector('.sequence').textContent, row.querySelector('p').textContent]));

await scenario(async ({ server, browser }) => {
  const site = await preview(app, server);
  try {
    for (let n = 1; n <= FEW; n++) await server.post({ channelId: CHANNEL, author: 'seed', content: `seed ${n}` });
    const here = await openWindow(browser, `${site.url}/?channel=${CHANNEL}`);
    const there = await openWindow(browser, `${site.url}/?channel=${CHANNEL}`);
    for (const page of [here, there]) await page.waitForSelector('.badge.live');
    await until('the first page', async () => (await rows(here)).length === 50);
    await here.click('.older button');
    await until('an older page', async () => (await rows(here)).length === 100);
    await here.click('.older button');
    await until('the whole history', async () => (await rows(here)).length === FEW);
    assert.equal(await here.locator('.older').count(), 0);

    await here.fill('[name=content]', 'from a window');
    await here.click('form button');
    for (const page of [here, there]) await page.locator('.message:not(.unstored)', { hasText: 'from a window' }).waitFor();

    let next = 0;
    const expected = [...Array.from({ length: FEW }, (_, n) => `seed ${n + 1}`), 'from a window'];
    for (let n = 0; n < STREAM; n++) expected.push(`stream ${n}`);
    const stream = async () => {
      while (next < STREAM) await postThrough(server, `stream ${next++}`);
    };
    const nemesis = async () => {
      for (const moment of KILL_AT) {
        await until(`message ${moment} of the stream`, () => next >= moment);
        await server.kill();
        await server.run();
      }
    };
    await Promise.all([stream(), nemesis()]);

    for (const [page, first] of [[here, 0], [there, FEW - 50]]) {
      await until('the end of the stream', async () => (await rows(page)).at(-1)?.[1] === `stream ${STREAM - 1}`);
      const shown = await rows(page);
      assert.deepEqual(shown, expected.map((content, index) => [String(index + 1), content]).slice(first));
      await page.waitForSelector('.badge.live');
    }

    // Another database: the app reads the new history and continues there.
    await server.kill();
    await server.forget();
    await server.run();
    await server.post({ channelId: CHANNEL, author: 'seed', content: 'a new log' });
    for (const page of [here, there]) await until('the new log', async () => JSON.stringify(await rows(page)) === '[["1","a new log"]]');
    await there.fill('[name=content]', 'goes on');
    await there.click('form button');
    for (const page of [here, there]) await until('a post in the new log', async () => JSON.stringify(await rows(page)) === '[["1","a new log"],["2","goes on"]]');
    // An answer grows through a kill -9, is stopped by one window, is edited and erased: both windows show the same.
    const run = async (query, variables) => {
      for (let attempt = 0; ; attempt++) {
        try {
          return await server.graphql(query, variables);
        } catch (error) {
          if (attempt === 600 || /MESSAGE_COMPLETE/.test(error.message)) throw error;
          await sleep(50);
        }
      }
    };
    const { postMessage } = await run(`mutation { postMessage(channelId: "${CHANNEL}", author: "scribe", content: "Once", complete: false) { id } }`);
    const append = (revision, piece) => run('mutation ($id: ID!, $revision: Int!, $piece: String!) { appendToMessage(id: $id, revision: $revision, piece: $piece) { id } }', { id: postMessage.id, revision, piece });
    let whole = 'Once';
    for (let n = 0; n < 40; n++) {
      if (n === 20) {
        await until('growing text', async () => (await rows(here)).at(-1)[1] === whole);
        await server.kill();
        setTimeout(() => server.run(), 200);
      }
      await append(n, ` word-${n}`);
      whole += ` word-${n}`;
    }
    for (const page of [here, there]) await until('the whole answer', async () => (await rows(page)).at(-1)[1] === whole);
    await there.locator('.message').last().getByRole('button', { name: 'Stop' }).click();
    await until('the stop in the other window', async () => (await here.locator('.growing').count()) === 0);
    await assert.rejects(append(40, ' too late'), /MESSAGE_COMPLETE/);
    await here.locator('.message').last().getByRole('button', { name: 'Edit' }).click();
    await here.fill('[aria-label="New content"]', 'short and good');
    await here.press('[aria-label="New content"]', 'Enter');
    for (const page of [here, there]) await until('the edit', async () => (await rows(page)).at(-1)[1] === 'short and good');
    await there.locator('.message').last().getByRole('button', { name: 'Erase' }).click();
    for (const page of [here, there]) await until('the erasure', async () => (await rows(page)).at(-1)[1] === 'erased');
    assert.deepEqual([...here.faults, ...there.faults], []);
  } finally {
    await site.stop();
  }
});
