/** A graphql-ws client that reconnects without end, and subscriptions that continue where they left off. See README.md. */

import { createClient, type Client, type FormattedExecutionResult, type SubscribePayload } from 'graphql-ws';

export type ConnectionState = 'connecting' | 'live' | 'waiting';

const PING_AFTER_MS = 10_000;
const PONG_TIMEOUT_MS = 5_000;
const BACKOFF_FIRST_MS = 300;
const BACKOFF_MAX_MS = 20_000;
const RETRY_MS = 1_000;
/** Errors that do not last, so trying again helps. If a token has ended, the next connection gets a new one from `connectionParams`. */
const PASSING = new Set(['UNAVAILABLE', 'RATE_LIMITED', 'UNAUTHENTICATED']);

/** The part of an error that is for programs. */
interface Extensions {
  code?: string;
  retryAfterMs?: number;
  resumeCursor?: string;
}

/** What a subscription delivers: messages or changes, each with its position. */
interface Delivery {
  messages?: { sequence: number; cursor: string } | null;
  changes?: { sequence: number; cursor: string } | null;
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** A client that retries without end, after random pauses, and notices lost connections. `onState` gets the state, for a badge. */
export function createReconnectingClient(url: string, onState: (state: ConnectionState) => void): Client {
  let pongTimeout: ReturnType<typeof setTimeout> | undefined;
  const client = createClient({
    url,
    retryAttempts: Infinity,
    shouldRetry: () => true, // a refused connection is an error and not a close, and by default an error ends everything
    retryWait: (attempt) => sleep(Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt) * (0.5 + Math.random() / 2)),
    keepAlive: PING_AFTER_MS,
    // connectionParams: async () => ({ token: await freshToken() }), // called again for each connection
    on: {
      connecting: () => onState('connecting'),
      connected: () => onState('live'),
      closed: () => {
        clearTimeout(pongTimeout);
        onState('waiting');
      },
      ping: (received) => {
        if (received) return;
        clearTimeout(pongTimeout);
        pongTimeout = setTimeout(() => client.terminate(), PONG_TIMEOUT_MS); // not close(): a close frame would not arrive
      },
      pong: (received) => {
        if (received) clearTimeout(pongTimeout);
      },
    },
  });
  return resuming(client);
}

/** The client, but operations are repeated until they are answered, and subscriptions use their newest cursor as `after`. */
export function resuming(client: Client): Client {
  const subscribe = ((payload, sink) => {
    const variables = payload.variables ?? {};
    let after = variables.after;
    let newest = 0;
    let stopped = false;
    let stop = () => {};

    // graphql-ws sends this object again on each connection. So it also calls the getter again.
    const renewed: SubscribePayload = {
      ...payload,
      variables: 'after' in variables ? { ...variables, get after() { return after; } } : variables,
    };

    /** Whether this error does not last. If so, the operation starts again after a while. */
    function startAgain(extensions: Extensions): boolean {
      if (extensions.code === 'CURSOR_EXPIRED' && extensions.resumeCursor) after = extensions.resumeCursor;
      else if (!PASSING.has(extensions.code ?? '')) return false;
      stop();
      void sleep(extensions.retryAfterMs ?? RETRY_MS).then(start);
      return true;
    }

    function start() {
      if (stopped) return;
      let replaced = false; // another attempt has replaced this one: ignore what still comes from it
      stop = client.subscribe<Delivery>(renewed, {
        next(result) {
          if (replaced) return;
          const extensions: Extensions = result.errors?.[0]?.extensions ?? {};
          if ((replaced = startAgain(extensions))) return;
          const entry = 'after' in variables ? (result.data?.messages ?? result.data?.changes) : undefined;
          if (entry) {
            if (entry.sequence <= newest) return;
            newest = entry.sequence;
            after = entry.cursor;
          }
          sink.next(result as FormattedExecutionResult<never, never>);
        },
        error(error) {
          const extensions: Extensions = Array.isArray(error) ? (error[0]?.extensions ?? {}) : {};
          if (!(replaced = startAgain(extensions))) sink.error(error);
        },
        complete() {
          if (!replaced) sink.complete();
        },
      });
    }

    start();
    return () => {
      stopped = true;
      stop();
    };
  }) as Client['subscribe'];
  return { ...client, subscribe };
}
