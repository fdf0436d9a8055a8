import { useMutation, useQuery, useSubscription } from '@apollo/client/react';
import { useState } from 'react';
import { Composer, Messages } from '../../ui';
import { addMessage, addSoon, catchUp, changeMessage } from './client';
import { CHANGES, EDIT, ERASE, HISTORY, LIVE, POST, STOP } from './operations';

const LAST_OF_ALL = 2 ** 31 - 1; // so a message without a sequence is sorted after all others

export function Channel({ channelId, onReplaced }: { channelId: string; onReplaced: () => void }) {
  const [after, setAfter] = useState<string>();
  const [changesAfter, setChangesAfter] = useState<string>();
  const { client, data, fetchMore } = useQuery(HISTORY, { variables: { channelId } });
  const messages = data?.channel.messages;

  // The subscription begins where the history ends. After that it uses its newest cursor by itself.
  if (data && after === undefined) {
    setAfter(messages?.edges.at(-1)?.cursor ?? data.channel.headCursor);
    setChangesAfter(data.channel.changesCursor);
  }
  useSubscription(LIVE, {
    variables: { channelId, after: after! },
    skip: after === undefined,
    ignoreResults: true, // the list below is read from the cache,
    fetchPolicy: 'no-cache', // and onData adds to the cache what arrives
    onData: ({ client, data: { data } }) => data && addSoon(client.cache, channelId, data.messages),
    onError: onReplaced,
  });

  // The changes of messages since the history was read. Their cursor comes with the history, and was read before any page.
  useSubscription(CHANGES, {
    variables: { channelId, after: changesAfter! },
    skip: changesAfter === undefined,
    ignoreResults: true,
    fetchPolicy: 'no-cache',
    onData: ({ client, data: { data } }) => data && changeMessage(client.cache, data.changes),
    onError: onReplaced,
  });
  // Their answers have `id` and `revision`, so the cache updates the message by itself.
  const [stop] = useMutation(STOP);
  const [edit] = useMutation(EDIT);
  const [erase] = useMutation(ERASE);

  async function loadOlder() {
    const older = await fetchMore({ variables: { before: messages?.pageInfo.startCursor } });
    if (older.data) catchUp(client.cache, older.data.channel.messages.edges.map((edge) => edge.node));
  }

  const [post] = useMutation(POST, {
    optimisticResponse: ({ author, content, idempotencyKey }) => ({
      postMessage: {
        __typename: 'Message' as const,
        id: `optimistic:${idempotencyKey}`,
        sequence: LAST_OF_ALL,
        cursor: '',
        author,
        content,
        timestamp: new Date().toISOString(),
        revision: 0,
        complete: true,
        editedAt: null,
        erasedAt: null,
      },
    }),
    update: (cache, { data }) => data && addMessage(cache, channelId, data.postMessage),
  });

  return (
    <>
      <Messages
        messages={messages?.edges.map((edge) => edge.node) ?? []}
        actions={{
          stop: ({ id }) => stop({ variables: { id } }),
          edit: ({ id, revision }, content) => edit({ variables: { id, content, revision } }),
          erase: ({ id }) => erase({ variables: { id } }),
        }}
        onOlder={messages?.pageInfo.hasPreviousPage ? loadOlder : undefined}
      />
      <Composer onPost={(author, content) => post({ variables: { channelId, author, content, idempotencyKey: crypto.randomUUID() } })} />
    </>
  );
}
