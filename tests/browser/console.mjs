// The console in two windows: both show what one posts, kill -9 leaves no gap, markup stays text, and the page says when
// the log was replaced.

import assert from 'node:assert/strict';
import { openWindow, scenario, until } from './harness.mjs';

const CHANNEL = 'den';
const FEW = 120;
const MANY = 1000;

const sequences = (page) => page.$$eval('#timeline .message', (rows) => rows.map((row) => Number(row.querySelector('.sequence').textContent)));
const state = (page, wanted) => page.waitForFunction((name) => document.body.dataset.state === name, wanted);

function contiguous(shown, first, last, who) {
  assert.deepEqual(shown, Array.from({ length: last - first + 1 }, (_, index) => first + index), `${who} shows exactly ${first}…${last}`);
}

async function post(page, content) {
  await page.fill('#content', content);
  await page.press('#content', 'Enter');
}

async function shows(page, content) {
  await page.locator('#timeline .content', { hasText: content }).waitFor();
}

await scenario(async ({ server, browser }) => {
  for (let n = 1; n <= FEW; n++) await server.post({ channelId: CHANNEL, author: 'seed', content: `seed ${n}` });
  const here = await openWindow(browser, `${server.url}/?channel=${CHANNEL}`);
  const there = await openWindow(browser, `${server.url}/?channel=${CHANNEL}`, { colorScheme: 'dark' });
  const windows = [['here', here], ['there', there]];
  for (const [, page] of windows) await state(page, 'live');
  let newest = FEW;

  // History first, then older pages over the connection, up to the beginning of the channel.
  await until('the newest page', async () => (await sequences(here)).length === 50);
  contiguous(await sequences(here), FEW - 49, FEW, 'the first page');
  await until('the beginning, by scrolling up', async () => {
    await here.$eval('#scroller', (scroller) => scroller.scrollBy(0, -scroller.scrollHeight));
    return here.isVisible('#start');
  });
  contiguous(await sequences(here), 1, FEW, 'the whole history');
  await here.locator('#channels a[aria-current=page]', { hasText: CHANNEL }).waitFor();

  // One window posts, and both show it, before it is stored and after.
  await here.fill('#author', 'mara');
  await here.fill('#lane', 'analysis');
  await here.fill('#provider', 'anthropic');
  await here.fill('#tokens', '318');
  await post(here, 'posted at once');
  await there.uncheck('#optimistic');
  await post(there, 'posted when stored');
  newest += 2;
  for (const [, page] of windows) {
    await shows(page, 'posted at once');
    await shows(page, 'posted when stored');
    const shown = await page.locator('.message', { hasText: 'posted at once' }).innerText();
    for (const part of ['mara', 'analysis', 'anthropic', '318 tokens', 'ms']) assert.ok(shown.includes(part), `${part} in ${shown}`);
  }

  // What people write never becomes markup.
  const markup = '<img src=x onerror="document.title=1"><b>bold</b>';
  await post(here, markup);
  newest += 1;
  for (const [, page] of windows) {
    await shows(page, markup);
    assert.equal(await page.locator('#timeline img, #timeline b').count(), 0);
  }
  await post(here, 'x'.repeat(70_000));
  await here.waitForSelector('#problem:not([hidden])');
  await here.fill('#content', '');

  // kill -9: both windows notice it, posts wait, and then both continue without a gap.
  await server.kill();
  for (const [, page] of windows) await state(page, 'waiting');
  await post(here, 'written while the server was gone');
  await here.locator('#pending', { hasText: 'written while' }).waitFor();
  await server.run();
  newest += 1;
  await Promise.all(Array.from({ length: MANY }, (_, n) => server.post({ channelId: CHANNEL, author: 'storm', content: `storm ${n}` })));
  newest += MANY;
  for (const [who, page] of windows) {
    await until('everything after the restart', async () => (await sequences(page)).at(-1) === newest);
    const shown = await sequences(page);
    contiguous(shown, shown[0], newest, who);
    await shows(page, 'written while the server was gone');
    await state(page, 'live');
    assert.equal(await page.locator('.note').count(), 0);
    assert.equal(await page.locator('#pending li').count(), 0);
  }
  assert.equal((await sequences(here))[0], 1);

  // Another database: the old position is refused, and the page says so and starts again.
  await server.kill();
  await server.forget();
  await server.run();
  await server.post({ channelId: CHANNEL, author: 'seed', content: 'a new log' });
  for (const [who, page] of windows) {
    await page.locator('.note.news', { hasText: 'log was replaced' }).waitFor();
    await shows(page, 'a new log');
    contiguous(await sequences(page), 1, 1, who);
  }
  await post(there, 'goes on');
  for (const [, page] of windows) await shows(page, 'goes on');

  for (const [who, page] of windows) assert.deepEqual(page.faults, [], who);
});
