// The playground's first tab runs without a change: one window has the subscription, and another one posts and reads history.

import assert from 'node:assert/strict';
import { openWindow, scenario } from './harness.mjs';

async function run(page, operation) {
  await page.click('.graphiql-execute-button');
  await page.click(`[role=menuitem]:has-text("${operation}")`);
}

const result = (page, text) =>
  page.waitForFunction((wanted) => document.querySelector('.result-window')?.textContent.replaceAll('\u00a0', ' ').includes(wanted), text);

await scenario(async ({ server, browser }) => {
  const listener = await openWindow(browser, `${server.url}/graphql`);
  const poster = await openWindow(browser, `${server.url}/graphql`);
  for (const page of [listener, poster]) await page.waitForSelector('.graphiql-query-editor .view-line');

  await run(listener, 'Listen');
  await listener.waitForSelector('.graphiql-spinner, .graphiql-execute-button[aria-label^="Stop"]');
  await run(poster, 'Post');
  await result(poster, 'general:1');
  await result(listener, 'Hello, playground');
  await server.post({ channelId: 'general', author: 'mara', content: 'a second one' });
  await result(listener, 'a second one');

  await run(poster, 'History');
  await result(poster, '"lastSequence": 2');
  await result(poster, 'a second one');

  // The documentation comes from the schema by introspection, and the editor's workers are files of this server.
  await listener.click('button[aria-label="Show Documentation Explorer"]');
  await listener.locator('.graphiql-doc-explorer', { hasText: 'Subscription' }).waitFor();
  for (const page of [listener, poster]) assert.deepEqual(page.faults, []);
});
