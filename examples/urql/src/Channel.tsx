import { useEffect, useMemo, useState } from 'react';
import { useClient, useMutation, useSubscription } from 'urql';
import { applyChange, type Change } from '../../reconnect/changes';
import { Composer, Messages } from '../../ui';
import type { HistoryQuery, MessageFieldsFragment } from './gql/graphql';
import { CHANGES, EDIT, ERASE, HISTORY, LIVE, POST, STOP } from './operations';

type Page = HistoryQuery['channel'];

const NONE: Map<string, Change[]> = new Map();
const AS_POSTED = { revision: 0, complete: true, editedAt: null, erasedAt: null };
const LAST_OF_ALL = 2 ** 31 - 1; // so a message without a sequence is sorted after all others

/** Each message once, by its id, in its newest revision, and in the order of the channel. */
function merge(changes: Map<string, Change[]>, ...lists: MessageFieldsFragment[][]): MessageFieldsFragment[] {
  const messages = new Map<string, MessageFieldsFragment>();
  for (const message of lists.flat()) {
    const other = messages.get(message.id);
    if (!other || message.revision > other.revision) messages.set(message.id, message);
  }
  for (const [id, ofOne] of changes) {
    const message = messages.get(id);
    if (message) messages.set(id, ofOne.reduce(applyChange, message));
  }
  return [...messages.values()].sort((one, other) => one.sequence - other.sequence);
}

export function Channel({ channelId, onReplaced }: { channelId: string; onReplaced: () => void }) {
  const client = useClient();
  const [pages, setPages] = useState<Page[]>([]); // the oldest first
  const [posted, setPosted] = useState<MessageFieldsFragment[]>([]); // posted by this window; some may not be stored yet

  async function load(before: string | null | undefined) {
    const { data } = await client.query(HISTORY, { channelId, before }, { requestPolicy: 'network-only' });
    if (data) setPages((pages) => (before ? [data.channel, ...pages] : [data.channel]));
  }
  useEffect(() => void load(null), [client, channelId]);

  // The subscription begins where the history ends. After that it uses its newest cursor by itself.
  const newest = pages.at(-1);
  const after = newest && (newest.messages.edges.at(-1)?.cursor ?? newest.headCursor);
  const [{ data: live, error }] = useSubscription(
    { query: LIVE, variables: { channelId, after: after! }, pause: after === undefined },
    (received: MessageFieldsFragment[] = [], { messages }) => [...received, messages],
  );
  useEffect(() => {
    if (error) onReplaced();
  }, [error]);

  // The changes of messages since the history was read. Their cursor comes with the first page, and was read before it.
  const [{ data: changes = NONE, error: changesError }] = useSubscription(
    { query: CHANGES, variables: { channelId, after: newest?.changesCursor! }, pause: newest === undefined },
    (known: Map<string, Change[]> = NONE, { changes: change }) => new Map(known).set(change.messageId, [...(known.get(change.messageId) ?? []), change]),
  );
  useEffect(() => {
    if (changesError) onReplaced();
  }, [changesError]);
  const [, stop] = useMutation(STOP);
  const [, edit] = useMutation(EDIT);
  const [, erase] = useMutation(ERASE);
  const [answers, setAnswers] = useState<MessageFieldsFragment[]>([]); // answers to the changes that this window has made
  async function done(result: Promise<{ data?: Record<string, unknown> | undefined; error?: Error | undefined }>) {
    const { data, error } = await result;
    if (error) throw error;
    setAnswers((answers) => [...answers, ...(Object.values(data ?? {}) as MessageFieldsFragment[])]);
  }

  const [, post] = useMutation(POST);
  async function postNow(author: string, content: string) {
    const idempotencyKey = crypto.randomUUID();
    const id = `optimistic:${idempotencyKey}`;
    setPosted((posted) => [...posted, { id, sequence: LAST_OF_ALL, cursor: '', author, content, timestamp: new Date().toISOString(), ...AS_POSTED }]);
    const { data, error } = await post({ channelId, author, content, idempotencyKey });
    setPosted((posted) => [...posted.filter((message) => message.id !== id), ...(data ? [data.postMessage] : [])]);
    if (error) throw error;
  }

  const messages = useMemo(
    () => merge(changes, ...pages.map((page) => page.messages.edges.map((edge) => edge.node)), live ?? [], posted, answers),
    [changes, pages, live, posted, answers],
  );
  const { hasPreviousPage, startCursor } = pages[0]?.messages.pageInfo ?? {};
  return (
    <>
      <Messages
        messages={messages}
        actions={{
          stop: ({ id }) => done(stop({ id })),
          edit: ({ id, revision }, content) => done(edit({ id, content, revision })),
          erase: ({ id }) => done(erase({ id })),
        }}
        onOlder={hasPreviousPage ? () => void load(startCursor) : undefined}
      />
      <Composer onPost={postNow} />
    </>
  );
}
