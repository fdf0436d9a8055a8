// What every browser scenario needs: a real server that can be killed, a real Chromium, and a page that records every
// failed request, every console error and every request outside loopback.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const DEADLINE_MS = 40_000;
const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const SERVER_COMMAND = process.env.SERVER_COMMAND ?? '[".venv/bin/python", "server.py"]';

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Waits until `condition()` is truthy, and returns its value. Fails with `what` after 40 s. */
export async function until(what, condition) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < deadline, `waited in vain for: ${what}`);
    await sleep(25);
  }
}

/** The server as a separate process. Its port and its database stay the same after a kill. */
export class Server {
  #process = null;

  /** Runs SERVER_COMMAND (a JSON list) in the repository; `settings` are further RAQCOON_* variables. */
  static async start(settings = {}) {
    const server = new Server();
    server.directory = await mkdtemp(join(tmpdir(), 'raqcoon-browser-'));
    server.port = await freePort();
    server.url = `http://127.0.0.1:${server.port}`;
    server.settings = settings;
    await server.run();
    return server;
  }

  async run() {
    const [command, ...args] = JSON.parse(SERVER_COMMAND);
    this.#process = spawn(command, args, {
      cwd: REPOSITORY,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        ...process.env,
        RAQCOON_PORT: String(this.port),
        RAQCOON_DATABASE_URL: `sqlite:///${this.directory}/raqcoon.db`,
        ...this.settings,
      },
    });
    await until('the server to answer', async () => {
      assert.equal(this.#process.exitCode, null, 'the server ended by itself');
      return fetch(`${this.url}/api/health`).then((response) => response.ok, () => false);
    });
  }

  /** kill -9. */
  async kill() {
    const gone = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await gone;
  }

  /** Removes the database, so the next run counts from 1 in a new epoch. Only when the server is not running. */
  async forget() {
    await rm(this.directory, { recursive: true });
    this.directory = await mkdtemp(join(tmpdir(), 'raqcoon-browser-'));
  }

  async stop() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }

  async graphql(query, variables = {}) {
    const response = await fetch(`${this.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const result = await response.json();
    assert.equal(result.errors, undefined, JSON.stringify(result.errors));
    return result.data;
  }

  async post(message) {
    const query = `mutation ($channelId: ID!, $author: String!, $content: String!, $lane: String, $provider: String,
                             $tokenCount: Int) {
      postMessage(channelId: $channelId, author: $author, content: $content, lane: $lane, provider: $provider,
                  tokenCount: $tokenCount) { sequence content }
    }`;
    return (await this.graphql(query, message)).postMessage;
  }
}

/** Serves a built example app (its folder in examples/) with Vite, which passes /graphql on to the server. */
export async function preview(app, server) {
  const port = await freePort();
  const vite = join(REPOSITORY, 'examples/node_modules/vite/bin/vite.js');
  const child = spawn(process.execPath, [vite, 'preview', '--host', '127.0.0.1', '--port', String(port), '--strictPort'], {
    cwd: join(REPOSITORY, 'examples', app),
    env: { ...process.env, RAQCOON_URL: server.url },
    stdio: 'ignore',
  });
  const url = `http://127.0.0.1:${port}`;
  await until('vite preview', () => fetch(url).then((response) => response.ok, () => false));
  return { url, stop: () => (child.kill(), once(child, 'exit')) };
}

/** The system's Chromium, headless, without its requests to its maker. CHROMIUM names the program. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox', // the tests may run as root in a container; the pages are our own
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

/** A window with its own storage. `window.faults` lists what went wrong in it, except lost connections. */
export async function openWindow(browser, url, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(`uncaught ${error.stack}`));
  page.on('console', (message) => {
    const lost = /WebSocket connection to .* failed|net::ERR_(CONNECTION|EMPTY|INCOMPLETE)/.test(message.text());
    if (message.type() === 'error' && !lost) page.faults.push(`console: ${message.text()}`);
  });
  page.on('response', (response) => response.status() >= 400 && page.faults.push(`${response.status()} ${response.url()}`));
  await page.route(
    (requested) => !['127.0.0.1', 'localhost'].includes(requested.hostname) && requested.protocol.startsWith('http'),
    (route) => {
      page.faults.push(`request outside loopback: ${route.request().url()}`);
      return route.abort();
    },
  );
  await page.goto(url);
  return page;
}

/** Runs a scenario with a server and a browser. Both are ended afterwards in any case. */
export async function scenario(run, settings) {
  const server = await Server.start(settings);
  const browser = await launch();
  try {
    await run({ server, browser });
  } finally {
    await browser.close();
    await server.stop();
  }
  process.stdout.write('passed\n');
}
