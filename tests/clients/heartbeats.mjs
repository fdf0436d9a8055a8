// Clients of server-sent events on a silent stream with many heartbeats. Prints what each of them gets, as lines of JSON.
// Arguments: the URL of /graphql, and how many messages each waits for.
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { Client, fetchExchange } from '@urql/core';
import { EventSource } from 'eventsource';
import { createClient } from 'graphql-sse';

// fetch-event-source is written for browsers. It uses only these parts of them.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const [url, count] = process.argv.slice(2);
const query = 'subscription { messages(channelId: "general") { sequence content } }';
const told = {};

function tell(client, what) {
  told[client] = (told[client] ?? 0) + 1;
  console.log(JSON.stringify({ client, ...what }));
  if (Object.values(told).length === 4 && Object.values(told).every((times) => times >= Number(count))) process.exit(0);
}
const message = (client) => ({ data }) => tell(client, { content: data.messages.content });
const failure = (client) => (error) => tell(client, { error: String(error) });

createClient({ url, retryAttempts: 0 }).subscribe(
  { query },
  { next: message('graphql-sse'), error: failure('graphql-sse'), complete: () => failure('graphql-sse')('complete') },
);

new Client({ url, preferGetMethod: false, fetchSubscriptions: true, exchanges: [fetchExchange] })
  .subscription(query, {})
  .subscribe((result) => (result.error ? failure('urql')(result.error) : message('urql')(result)));

const source = new EventSource(`${url}?${new URLSearchParams({ query })}`);
source.addEventListener('next', ({ data }) => message('eventsource')(JSON.parse(data)));
source.onmessage = failure('eventsource');
source.onerror = failure('eventsource');

fetchEventSource(url, {
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
  body: JSON.stringify({ query }),
  openWhenHidden: true,
  onmessage: ({ data }) => message('fetch-event-source')(JSON.parse(data)),
  onclose: () => failure('fetch-event-source')('closed'),
  onerror(error) {
    failure('fetch-event-source')(error);
    throw error;
  },
});
