import { Client, subscriptionExchange } from 'urql';
import { setConnectionState } from '../../reconnect/badge';
import { createReconnectingClient } from '../../reconnect/reconnect';

const socket = createReconnectingClient(`${location.origin.replace('http', 'ws')}/graphql`, setConnectionState);

export const client = new Client({
  url: '/graphql',
  preferGetMethod: false,
  exchanges: [
    subscriptionExchange({
      enableAllOperations: true, // also for queries and mutations, so that they are repeated until they are answered
      forwardSubscription: ({ query = '', variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables: variables as Record<string, unknown> }, sink) }),
      }),
    }),
  ],
});
