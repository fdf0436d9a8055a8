import { ApolloClient, InMemoryCache, type ApolloCache, type FieldMergeFunction, type Reference } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { setConnectionState } from '../../reconnect/badge';
import { createReconnectingClient } from '../../reconnect/reconnect';
import { applyChange, EarlyChanges, type Change } from '../../reconnect/changes';
import type { MessageFieldsFragment } from './gql/graphql';
import { MESSAGE_FIELDS } from './operations';

interface Connection {
  edges: { node: Reference }[];
  pageInfo: object;
}

/** Merges pages into one list, in the order of the channel. Each message is in it once, by its id. */
const mergePages: FieldMergeFunction<Connection> = (existing, incoming, { args, readField }) => {
  const edges = new Map([...(existing?.edges ?? []), ...incoming.edges].map((edge) => [readField<string>('id', edge.node), edge]));
  const sequence = (edge: { node: Reference }) => readField<number>('sequence', edge.node) ?? 0;
  return {
    ...incoming,
    edges: [...edges.values()].sort((one, other) => sequence(one) - sequence(other)),
    // Only an older page says something new about what comes before.
    pageInfo: existing && !args?.before ? existing.pageInfo : incoming.pageInfo,
  };
};

export const client = new ApolloClient({
  link: new GraphQLWsLink(createReconnectingClient(`${location.origin.replace('http', 'ws')}/graphql`, setConnectionState)),
  cache: new InMemoryCache({
    typePolicies: { Channel: { fields: { messages: { keyArgs: ['filter'], merge: mergePages } } } },
  }),
});

const early = new EarlyChanges();

/** Applies a change to the message in the cache, or keeps it until the message comes. */
export function changeMessage(cache: ApolloCache, change: Change): void {
  const id = cache.identify({ __typename: 'Message', id: change.messageId })!;
  const read = () => cache.readFragment({ id, fragment: MESSAGE_FIELDS, fragmentName: 'MessageFields' });
  const message = read();
  if (message) cache.writeFragment({ id, fragment: MESSAGE_FIELDS, fragmentName: 'MessageFields', data: applyChange(message, change) });
  else early.keep(change);
}

/** A page has just been read: applies the changes of its messages that came before the page. */
export function catchUp(cache: ApolloCache, messages: MessageFieldsFragment[]): void {
  for (const message of messages) {
    const data = early.applied(message);
    if (data !== message) cache.writeFragment({ id: cache.identify(data)!, fragment: MESSAGE_FIELDS, fragmentName: 'MessageFields', data });
  }
}

/** Puts a message in its place in the channel's list, unless it is there already. */
export function addMessage(cache: ApolloCache, channelId: string, arrived: MessageFieldsFragment): void {
  const message = early.applied(arrived);
  cache.modify({
    id: cache.identify({ __typename: 'Channel', id: channelId }),
    fields: {
      messages(connection, { readField, toReference }) {
        const { edges } = connection as Connection;
        const before = edges.findLastIndex((edge) => readField<number>('sequence', edge.node)! <= message.sequence);
        if (readField('id', edges[before]?.node) === message.id) return connection;
        const node = toReference({ ...message, __typename: 'Message' }, true)!;
        const edge = { __typename: 'MessageEdge', cursor: message.cursor, node };
        return { ...connection, edges: edges.toSpliced(before + 1, 0, edge) };
      },
    },
  });
}

const FRAME_MS = 16;
const arrived: (() => void)[] = [];

/** Adds what a subscription delivers, once for each frame that the browser draws: after each change Apollo reads the whole list. */
export function addSoon(cache: ApolloCache, channelId: string, message: MessageFieldsFragment): void {
  if (arrived.push(() => addMessage(cache, channelId, message)) > 1) return;
  setTimeout(() => cache.batch({ update: () => arrived.splice(0).forEach((add) => add()) }), FRAME_MS);
}
