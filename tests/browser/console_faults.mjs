// What the console does after faults that are rare with a real server. The browser's driver plays a small GraphQL server.
// A dead connection is given up, an expired cursor is explained, and after an error that does not last it tries again.

import assert from 'node:assert/strict';
import { openWindow, scenario, until } from './harness.mjs';

const message = (sequence) => ({ id: `den:${sequence}`, channelId: 'den', revision: 0, complete: true, editedAt: null, erasedAt: null, sequence, cursor: `cursor-${sequence}`, author: 'mara', content: `message ${sequence}`, lane: null, provider: null, tokenCount: null, timestamp: new Date().toISOString() });
const history = (...sequences) => ({
  channel: { headCursor: 'cursor-0', lastSequence: sequences.at(-1) ?? 0, messages: { edges: sequences.map((sequence) => ({ node: message(sequence) })), pageInfo: { hasPreviousPage: false } } },
});
const shown = (page) => page.$$eval('#timeline .message .sequence', (cells) => cells.map((cell) => Number(cell.textContent)));

/** Opens the console on such a server. `answer(operation, send, connection)` is the server after the ack. */
async function play(browser, server, answer) {
  const page = await openWindow(browser, 'about:blank');
  const connections = [];
  await page.routeWebSocket(/graphql$/, (socket) => {
    const connection = { number: connections.length + 1, pings: 0, answersPings: true };
    connections.push(connection);
    socket.onMessage((text) => {
      const { id, type, payload } = JSON.parse(text);
      const send = (kind, payload) => socket.send(JSON.stringify({ id, type: kind, payload }));
      if (payload?.query?.startsWith('query ChangesCursor')) return send('next', { data: { channel: { changesCursor: 'change-0' } } });
      if (payload?.query?.startsWith('subscription Changes')) return; // there are no changes here
      if (type === 'connection_init') socket.send('{"type":"connection_ack"}');
      else if (payload?.query?.startsWith('query Channels')) return; // the list of channels is never answered; the page works without it
      else if (type === 'ping') {
        connection.pings += 1;
        if (connection.answersPings) socket.send('{"type":"pong"}');
      } else if (type === 'subscribe') answer(payload, send, connection);
    });
  });
  await page.clock.install();
  await page.goto(`${server.url}/?channel=den`);
  return { page, connections };
}

const refuse = (send, code, extensions = {}) => send('error', [{ message: 'refused', extensions: { code, ...extensions } }]);

await scenario(async ({ server, browser }) => {
  const faults = [];

  // The connection is lost without a notice: two pings are answered, the third is not, and a new connection resumes.
  {
    const asked = [];
    const { page, connections } = await play(browser, server, ({ query, variables }, send, connection) => {
      if (query.startsWith('query')) return send('next', { data: history(1, 2) });
      asked.push(variables.after);
      if (connection.number === 1) send('next', { data: { messages: message(3) } });
      // The second connection repeats one message before it continues.
      else for (const sequence of [3, 4]) send('next', { data: { messages: message(sequence) } });
    });
    await until('three messages', async () => (await shown(page)).length === 3);
    for (const pings of [1, 2]) {
      await page.clock.runFor(10_000);
      await until('a ping', () => connections[0].pings === pings);
    }
    assert.equal(connections.length, 1);
    connections[0].answersPings = false;
    await page.clock.runFor(10_000);
    await until('the last ping', () => connections[0].pings === 3);
    await page.clock.runFor(5_000);
    await page.locator('#state', { hasText: 'no answer to a ping' }).waitFor();
    // By the time Playwright would find it, the page may have tried again by itself: then the button does nothing.
    await page.locator('#retry').evaluate((button) => button.click());
    await until('the fourth message', async () => (await shown(page)).length === 4);
    assert.deepEqual(await shown(page), [1, 2, 3, 4]);
    assert.deepEqual(asked, ['cursor-2', 'cursor-3']);
    faults.push(...page.faults);
  }

  // Retention has removed messages: the page says so, and continues from where the server says.
  {
    const asked = [];
    const { page } = await play(browser, server, ({ query, variables }, send) => {
      if (query.startsWith('query')) return send('next', { data: history(1, 2) });
      asked.push(variables.after);
      if (variables.after === 'cursor-2') refuse(send, 'CURSOR_EXPIRED', { resumeCursor: 'cursor-89' });
      else send('next', { data: { messages: message(90) } });
    });
    await page.locator('.note', { hasText: 'removed by retention' }).waitFor();
    await until('the oldest message kept', async () => (await shown(page)).at(-1) === 90);
    assert.equal(await page.locator('.note.bad').count(), 0);
    assert.deepEqual(asked, ['cursor-2', 'cursor-89']);
    faults.push(...page.faults);
  }

  // The log does not answer for a while: history and subscription are asked for again after the time in the error.
  {
    const asked = [];
    const { page } = await play(browser, server, ({ query }, send) => {
      const kind = query.split(' ')[0];
      asked.push(kind);
      if (asked.filter((other) => other === kind).length === 1) return refuse(send, 'UNAVAILABLE', { retryAfterMs: 700 });
      if (kind === 'query') return send('next', { data: history() });
      return send('next', { data: { messages: message(1) } });
    });
    await until('all four attempts', async () => {
      await page.clock.runFor(800);
      return (await shown(page)).length === 1;
    });
    assert.deepEqual(asked, ['query', 'query', 'subscription', 'subscription']);
    faults.push(...page.faults);
  }

  // A channel that may not be read: the page says so once and does not try again. And a gap is shown.
  {
    const { page } = await play(browser, server, ({ query, variables }, send) => {
      if (query.startsWith('query')) return variables.channelId === 'den' ? send('next', { data: history(1) }) : refuse(send, 'FORBIDDEN');
      for (const sequence of [2, 5]) send('next', { data: { messages: message(sequence) } });
    });
    await page.locator('.note.bad', { hasText: 'Messages 3 to 4 did not arrive.' }).waitFor();
    await page.fill('#channel', 'vault');
    await page.press('#channel', 'Enter');
    await page.locator('.note.bad', { hasText: 'FORBIDDEN' }).waitFor();
    assert.deepEqual(await shown(page), []);
    faults.push(...page.faults);
  }
  // Thousands of messages: the page keeps the newest 5,000, and loads again what it dropped.
  {
    const asked = [];
    const { page } = await play(browser, server, ({ query, variables }, send) => {
      if (query.startsWith('query')) {
        asked.push(variables.before);
        const sequences = variables.before ? Array.from({ length: 50 }, (_, index) => 951 + index) : [1, 2];
        const { channel } = history(...sequences);
        channel.messages.pageInfo.hasPreviousPage = Boolean(variables.before);
        return send('next', { data: { channel } });
      }
      for (let sequence = 3; sequence <= 6000; sequence++) send('next', { data: { messages: message(sequence) } });
    });
    await until('the newest', async () => {
      await page.clock.runFor(400); // a hundred rows are drawn in each frame
      return (await shown(page)).at(-1) === 6000;
    });
    assert.equal((await shown(page))[0], 1001);
    await page.click('#older');
    await until('an older page', async () => (await shown(page))[0] === 951);
    const rows = await shown(page);
    assert.deepEqual(rows, Array.from({ length: rows.length }, (_, index) => 951 + index));
    // More may have been loaded since, because the click scrolls to the top of what is loaded.
    assert.deepEqual(asked.slice(0, 2), [null, 'cursor-1001']);
    faults.push(...page.faults);
  }
  assert.deepEqual(faults, []);
});
