// Makes the pictures of docs/images. Build playground and examples first. Run: node tests/browser/screenshots.mjs

import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { openWindow, preview, scenario, until } from './harness.mjs';

const images = fileURLToPath(new URL('../../docs/images/', import.meta.url));
await mkdir(images, { recursive: true });

const talk = [
  ['mara', 'The night build is green again. What was it?', {}],
  ['scribe', 'A resume that started one position too early: subscriber 14 saw message 88 twice. Positions now move before the write, never after it.', { lane: 'analysis', provider: 'anthropic', tokenCount: 318 }],
  ['jonas', 'And the slow clients?', {}],
  ['scribe', 'They fall back to the log and catch up page by page. In last night’s run:\n\n  40 subscribers, 20 of them not reading\n  20,000 messages of 1 kB\n  +0.5 MiB of memory, nothing dropped', { lane: 'analysis', provider: 'anthropic', tokenCount: 1204 }],
  ['نور', 'رائع. هل يصل كل شيء بالترتيب بعد إعادة الاتصال؟', {}],
  ['scribe', 'نعم. كل رسالة لها رقم في قناتها، والمؤشر يكمل من حيث توقف العميل.', { lane: 'analysis', provider: 'mistral', tokenCount: 96 }],
  ['小林', '了解です。では今夜リリースしましょう。', { lane: 'release' }],
  ['herald', 'Release 0.1.0 tagged. Three nodes drain and restart one after the other; nobody should notice.', { lane: 'release', provider: 'ops', tokenCount: 41 }],
];

await scenario(async ({ server, browser }) => {
  for (let n = 1; n <= 120; n++) await server.post({ channelId: 'night-shift', author: 'herald', content: `Nightly check ${n} of 120: all quiet.`, lane: 'release' });
  const pages = [];
  for (const [name, options] of [
    ['console-light', { colorScheme: 'light', viewport: { width: 1180, height: 860 } }],
    ['console-dark', { colorScheme: 'dark', viewport: { width: 1180, height: 860 } }],
    ['console-narrow', { colorScheme: 'light', viewport: { width: 390, height: 780 } }],
  ]) {
    const page = await openWindow(browser, `${server.url}/?channel=night-shift`, { ...options, deviceScaleFactor: 2 });
    await page.fill('#author', 'mara');
    await page.waitForFunction(() => document.body.dataset.state === 'live' && document.querySelectorAll('.message').length >= 50);
    pages.push([name, page]);
  }
  for (const [author, content, rest] of talk) {
    await server.post({ channelId: 'night-shift', author, content, ...rest });
    await sleep(400); // messages come slowly, so the latencies in the picture are those of a quiet channel
  }
  for (const [name, page] of pages) {
    await page.fill('#content', 'Ship it.');
    await until('the talk', async () => (await page.locator('.message .mark').count()) === talk.length);
    await page.screenshot({ path: `${images}${name}.png` });
  }

  const playground = await openWindow(browser, `${server.url}/graphql`, { colorScheme: 'light', viewport: { width: 1280, height: 800 }, deviceScaleFactor: 2 });
  await playground.waitForSelector('.graphiql-editor .view-lines');
  await sleep(1500); // the editor's workers colour the text
  await playground.click('.graphiql-execute-button');
  await playground.click('[role=menuitem]:has-text("Listen")');
  await sleep(500);
  await server.post({ channelId: 'general', author: 'mara', content: 'Seen in the playground as it was posted.', lane: 'demo' });
  await playground.waitForFunction(() => document.querySelector('.result-window')?.textContent.includes('sequence'));
  await sleep(500);
  await playground.screenshot({ path: `${images}playground.png` });

  const all = [...pages.map(([, page]) => page), playground];
  for (const app of ['apollo', 'urql']) {
    const site = await preview(app, server);
    const page = await openWindow(browser, `${site.url}/?channel=night-shift`, { viewport: { width: 800, height: 640 }, deviceScaleFactor: 2 });
    await until('the history', async () => (await page.locator('.message').count()) >= 50);
    await page.screenshot({ path: `${images}example-${app}.png` });
    await site.stop();
    all.push(page);
  }

  // A post that waits for the server. This comes last, because nothing answers any more after it.
  await server.kill();
  const [, page] = pages[0];
  await page.press('#content', 'Enter');
  await page.locator('#state', { hasText: 'Next try in' }).waitFor();
  await page.screenshot({ path: `${images}console-reconnecting.png` });
  const faults = all.flatMap((page) => page.faults);
  if (faults.length) throw new Error(faults.join('\n'));
});
