// The console in daily use: what is new in each channel, older messages, a link to a message, search, keys, a token. And
// axe-core finds no barrier.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { openWindow, scenario, until } from './harness.mjs';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SECRET = 'a secret of thirty-two bytes or more';
const MANY = 10_000;

const sequences = (page) => page.$$eval('#timeline .message', (rows) => rows.map((row) => Number(row.querySelector('.sequence').textContent)));
const live = (page) => page.waitForFunction(() => document.body.dataset.state === 'live');
const unseen = (page, channel) => page.locator(`#channels a[data-channel="${channel}"] .unseen-count`);

function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** The problems that axe-core finds in the page as it is now. */
async function barriers(page) {
  await page.evaluate(AXE); // not as a script element, because the policy of the page forbids those
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(' | ')}`);
}

await scenario(async ({ server, browser }) => {
  const post = (channelId, content) => server.post({ channelId, author: 'seed', content });
  for (let n = 1; n <= 160; n++) await post('den', `seed ${n}`);
  await post('attic', 'first');
  const page = await openWindow(browser, `${server.url}/?channel=attic`);
  await live(page);

  // What is new in each channel since the user has looked at it, also after a reload.
  await page.locator('#channels a', { hasText: 'den' }).click();
  await until('the newest page', async () => (await sequences(page)).at(-1) === 160);
  assert.equal(new URL(page.url()).searchParams.get('channel'), 'den');
  for (const content of ['second', 'third']) await post('attic', content);
  await until('two new', async () => (await unseen(page, 'attic').textContent().catch(() => '')) === '2');
  await page.reload();
  await until('still two new', async () => (await unseen(page, 'attic').textContent().catch(() => '')) === '2');
  assert.equal(await unseen(page, 'den').count(), 0);
  await page.locator('#channels a', { hasText: 'attic' }).click();
  await page.locator('#timeline .content', { hasText: 'third' }).waitFor();
  await until('nothing new', async () => (await unseen(page, 'attic').count()) === 0);

  // Only with the keyboard: to a channel by its name, to the next one, to the search, and back to writing.
  await page.keyboard.press('Control+k');
  await page.keyboard.type('den');
  assert.deepEqual(await page.$$eval('#channels a', (links) => links.map((link) => link.dataset.channel)), ['den']);
  await page.keyboard.press('Enter');
  await until('den', async () => (await sequences(page)).at(-1) === 160);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'content');
  await page.keyboard.press('Alt+ArrowUp');
  await until('attic', async () => (await page.textContent('#title')) === 'attic');
  await page.keyboard.press('Alt+ArrowDown');
  await until('den again', async () => (await sequences(page)).at(-1) === 160);

  // Scrolling up loads older messages without a gap, and the view stays where it was.
  await page.$eval('#scroller', (scroller) => scroller.scrollBy(0, -200));
  await until('the beginning', async () => {
    await page.$eval('#scroller', (scroller) => scroller.scrollBy(0, -scroller.scrollHeight));
    return page.isVisible('#start');
  });
  assert.deepEqual(await sequences(page), Array.from({ length: 160 }, (_, index) => index + 1));

  // Search among what is loaded.
  await page.focus('#scroller');
  await page.keyboard.press('/');
  await page.keyboard.type('SEED 15');
  await until('what was found', async () => (await page.textContent('#found')) === '11 of 160 loaded');
  assert.equal(await page.locator('#timeline .message:visible').count(), 11);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#timeline .message.missed').count(), 0);

  // A link to a message opens the page around it, and the messages after it come too.
  const href = await page.locator('#timeline .sequence', { hasText: /^42$/ }).getAttribute('href');
  const linked = await openWindow(browser, new URL(href, server.url).href);
  await linked.locator('.message.revealed', { hasText: 'seed 42' }).waitFor();
  await until('all that follows', async () => (await sequences(linked)).at(-1) === 160);
  const shown = await sequences(linked);
  assert.deepEqual(shown, Array.from({ length: 160 - shown[0] + 1 }, (_, index) => shown[0] + index));
  assert.ok(await linked.locator('.message.revealed').evaluate((row) => row.getBoundingClientRect().top > 0));
  const nowhere = await openWindow(browser, `${server.url}/?channel=den&message=99999`);
  await nowhere.locator('.note', { hasText: 'Message 99999 is not there' }).waitFor();
  await until('the newest page', async () => (await sequences(nowhere)).at(-1) === 160);

  // Links and code are shown as such. Nothing else that people write has an effect.
  await post('den', 'See https://docs.example/a(b). `x < 1`\n```js\nif (a < b) alert("<b>")\n```\n<i>text</i> javascript:alert(1)');
  const row = page.locator('#timeline .message').last();
  await row.locator('pre[data-language=js] code').waitFor();
  assert.equal(await row.locator('pre code').textContent(), 'if (a < b) alert("<b>")');
  assert.deepEqual(await row.locator('.content a').evaluateAll((links) => links.map((link) => [link.href, link.target, link.rel])), [['https://docs.example/a(b', '_blank', 'noopener noreferrer nofollow']]);
  assert.equal(await row.locator('b, i, script').count(), 0);
  assert.ok((await row.textContent()).includes('javascript:alert(1)'));

  // The first message of a day has a label with the date, once.
  assert.equal(await page.locator('#timeline .message[data-day]').count(), 1);

  // Ten thousand messages at once: the page stays usable.
  for (const other of [linked, nowhere]) {
    assert.deepEqual(other.faults, []);
    await other.context().close();
  }
  await page.evaluate(() => {
    globalThis.longest = 0;
    new PerformanceObserver((list) => {
      for (const task of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, task.duration);
    }).observe({ type: 'longtask' });
  });
  const documents = `mutation (${Array.from({ length: 25 }, (_, n) => `$c${n}: String!`).join(', ')}) { ${Array.from({ length: 25 }, (_, n) => `p${n}: postMessage(channelId: "den", author: "storm", content: $c${n}) { sequence }`).join(' ')} }`;
  for (let done = 0; done < MANY; done += 1000) {
    await Promise.all(Array.from({ length: 40 }, (_, batch) => server.graphql(documents, Object.fromEntries(Array.from({ length: 25 }, (_, n) => [`c${n}`, `storm ${done + batch * 25 + n}`])))));
  }
  await until('all of them', async () => (await sequences(page)).at(-1) === MANY + 161);
  const longest = await page.evaluate(() => globalThis.longest);
  assert.ok(longest < 400, `a task of the page took ${longest} ms while ${MANY} messages came`);

  // axe-core finds no barrier at each width, in both colour schemes, also with the panel open.
  for (const [width, colorScheme] of [[1440, 'light'], [1440, 'dark'], [768, 'light'], [390, 'dark']]) {
    const other = await openWindow(browser, `${server.url}/?channel=attic`, { colorScheme, viewport: { width, height: 800 } });
    await other.locator('#timeline .content', { hasText: 'third' }).waitFor();
    assert.deepEqual(await barriers(other), [], `${width} px, ${colorScheme}`);
    assert.equal(await other.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `${width} px scrolls sideways`);
    if (width < 900) {
      await other.click('#menu');
      await other.locator('#channels a', { hasText: 'den' }).waitFor({ state: 'visible' });
      assert.deepEqual(await barriers(other), [], `${width} px, with the panel open`);
    }
    assert.deepEqual(other.faults, []);
  }
  assert.deepEqual(page.faults, []);
});

// A server that asks for tokens: the token field opens by itself, and the page does not offer what the token does not allow.
await scenario(
  async ({ server, browser }) => {
    const page = await openWindow(browser, `${server.url}/?channel=news`);
    await page.locator('#token').waitFor({ state: 'visible' });
    await page.fill('#token', token({ sub: 'ann', channels: ['team'], read: ['news'] }));
    await page.press('#token', 'Enter');
    await live(page);
    await page.locator('#read-only').waitFor({ state: 'visible' });
    assert.equal(await page.isVisible('#composer'), false);
    await page.fill('#channel', 'team');
    await page.press('#channel', 'Enter');
    await page.locator('#composer').waitFor({ state: 'visible' });
    assert.equal(await page.inputValue('#author'), 'ann');
    await page.fill('#content', 'with a token');
    await page.press('#content', 'Enter');
    await page.locator('#timeline .content', { hasText: 'with a token' }).waitFor();
    assert.ok((await page.textContent('#rights')).includes('news'));
    assert.deepEqual(page.faults, []);
  },
  { RAQCOON_AUTH: 'jwt', RAQCOON_JWT_SECRET: SECRET },
);
