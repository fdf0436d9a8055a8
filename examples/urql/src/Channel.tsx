import { useEffect, useMemo, useState } from 'react';
import { useClient, useMutation, useSubscription } from 'urql';
import { Composer, Messages } from '../../ui';
import type { HistoryQuery, MessageFieldsFragment } from './gql/graphql';
import { HISTORY, LIVE, POST } from './operations';

type Page = HistoryQuery['channel'];

const LAST_OF_ALL = 2 ** 31 - 1; // sorts a message that has no sequence yet behind the others

/** Each message once, by id, in the order of the channel. */
function merge(...lists: MessageFieldsFragment[][]): MessageFieldsFragment[] {
  const messages = new Map(lists.flat().map((message) => [message.id, message]));
  return [...messages.values()].sort((one, other) => one.sequence - other.sequence);
}

export function Channel({ channelId, onReplaced }: { channelId: string; onReplaced: () => void }) {
  const client = useClient();
  const [pages, setPages] = useState<Page[]>([]); // the oldest first
  const [posted, setPosted] = useState<MessageFieldsFragment[]>([]); // by this window, stored or not yet

  async function load(before: string | null | undefined) {
    const { data } = await client.query(HISTORY, { channelId, before }, { requestPolicy: 'network-only' });
    if (data) setPages((pages) => (before ? [data.channel, ...pages] : [data.channel]));
  }
  useEffect(() => void load(null), [client, channelId]);

  // Where the history ends, the subscription begins. From then on it renews its cursor by itself.
  const newest = pages.at(-1);
  const after = newest && (newest.messages.edges.at(-1)?.cursor ?? newest.headCursor);
  const [{ data: live, error }] = useSubscription(
    { query: LIVE, variables: { channelId, after: after! }, pause: after === undefined },
    (received: MessageFieldsFragment[] = [], { messages }) => [...received, messages],
  );
  useEffect(() => {
    if (error) onReplaced();
  }, [error]);

  const [, post] = useMutation(POST);
  async function postNow(author: string, content: string) {
    const idempotencyKey = crypto.randomUUID();
    const id = `optimistic:${idempotencyKey}`;
    setPosted((posted) => [...posted, { id, sequence: LAST_OF_ALL, cursor: '', author, content, timestamp: new Date().toISOString() }]);
    const { data, error } = await post({ channelId, author, content, idempotencyKey });
    setPosted((posted) => [...posted.filter((message) => message.id !== id), ...(data ? [data.postMessage] : [])]);
    if (error) throw error;
  }

  const messages = useMemo(
    () => merge(...pages.map((page) => page.messages.edges.map((edge) => edge.node)), live ?? [], posted),
    [pages, live, posted],
  );
  const { hasPreviousPage, startCursor } = pages[0]?.messages.pageInfo ?? {};
  return (
    <>
      <Messages messages={messages} onOlder={hasPreviousPage ? () => void load(startCursor) : undefined} />
      <Composer onPost={postNow} />
    </>
  );
}
