// Runs one client. Arguments: the name of the adapter, and its work as JSON (see `work` in matrix.py). Prints a line of JSON
// for everything that it learns. Ends when its standard input ends.
import { adapters } from './adapters.mjs';

const [name, work] = process.argv.slice(2);
const { url, past, own, key, follow } = JSON.parse(work);

const FIRST = 'query ($id: ID!) { message(id: $id) { content } }';
const POST = `mutation ($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {
  postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) { sequence }
}`;
const PAGE = `query ($channelId: ID!, $before: Cursor) {
  channel(id: $channelId) {
    messages(last: 100, before: $before) { edges { node { sequence } } pageInfo { hasPreviousPage startCursor } }
  }
}`;
const MESSAGES = `subscription ($channelId: ID!, $after: Cursor!) {
  messages(channelId: $channelId, after: $after) { sequence cursor content }
}`;

const tell = (value) => console.log(JSON.stringify(value));

async function requests({ request }) {
  tell({ cell: 'query', value: (await request(FIRST, { id: `${past}:1` })).message.content });
  const variables = { channelId: own, author: name, content: 'once', idempotencyKey: key };
  const posts = [await request(POST, variables), await request(POST, variables)];
  tell({ cell: 'mutation', value: posts.map(({ postMessage }) => postMessage.sequence) });
  const history = [];
  let page;
  do {
    const { channel } = await request(PAGE, { channelId: past, before: page?.pageInfo.startCursor });
    page = channel.messages;
    history.unshift(...page.edges.map((edge) => edge.node.sequence));
  } while (page.pageInfo.hasPreviousPage);
  tell({ cell: 'history', value: history });
}

/** Follows a channel without end: when a subscription ends, it subscribes again after the newest cursor. */
function followOne(client, { channel, after }) {
  client.subscribe(
    MESSAGES,
    { channelId: channel, after },
    (message) => {
      after = message.cursor;
      tell({ channel, sequence: message.sequence, content: message.content.slice(0, 20) });
    },
    () => setTimeout(() => followOne(client, { channel, after }), 50),
  );
}

const tokenFrom = (tokens) => tokens && (async () => (await fetch(tokens)).text());
const clients = new Map();
function clientOf(server, tokens) {
  if (!clients.has(server)) clients.set(server, adapters[name](server, tokenFrom(tokens)));
  return clients.get(server);
}

for (const each of follow) followOne(clientOf(each.url, each.tokens), each);
await requests(clientOf(url));
process.stdin.on('end', () => process.exit(0)).resume();
