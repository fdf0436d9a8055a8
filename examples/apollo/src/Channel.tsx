import { useMutation, useQuery, useSubscription } from '@apollo/client/react';
import { useState } from 'react';
import { Composer, Messages } from '../../ui';
import { addMessage, addSoon } from './client';
import { HISTORY, LIVE, POST } from './operations';

const LAST_OF_ALL = 2 ** 31 - 1; // sorts a message that has no sequence yet behind the others

export function Channel({ channelId, onReplaced }: { channelId: string; onReplaced: () => void }) {
  const [after, setAfter] = useState<string>();
  const { data, fetchMore } = useQuery(HISTORY, { variables: { channelId } });
  const messages = data?.channel.messages;

  // Where the history ends, the subscription begins. From then on it renews its cursor by itself.
  if (data && after === undefined) setAfter(messages?.edges.at(-1)?.cursor ?? data.channel.headCursor);
  useSubscription(LIVE, {
    variables: { channelId, after: after! },
    skip: after === undefined,
    ignoreResults: true, // the list below comes from the cache,
    fetchPolicy: 'no-cache', // to which onData adds what arrives
    onData: ({ client, data: { data } }) => data && addSoon(client.cache, channelId, data.messages),
    onError: onReplaced,
  });

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
      },
    }),
    update: (cache, { data }) => data && addMessage(cache, channelId, data.postMessage),
  });

  return (
    <>
      <Messages
        messages={messages?.edges.map((edge) => edge.node) ?? []}
        onOlder={messages?.pageInfo.hasPreviousPage ? () => fetchMore({ variables: { before: messages.pageInfo.startCursor } }) : undefined}
      />
      <Composer onPost={(author, content) => post({ variables: { channelId, author, content, idempotencyKey: crypto.randomUUID() } })} />
    </>
  );
}
