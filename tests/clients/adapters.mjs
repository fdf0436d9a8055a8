// Each client as its documentation shows it, behind two functions. `request(query, variables)` returns the data of a query
// or mutation. `subscribe(query, variables, next, end)` is one subscription: `next` gets each message, and `end` is called
// once when it is over, for whatever reason. `token()` is called for each request and connection; null means no token.
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { SetContextLink } from '@apollo/client/link/context';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { Client, fetchExchange, subscriptionExchange } from '@urql/core';
import { EventSource } from 'eventsource';
import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createSocketClient } from 'graphql-ws';
import { createReconnectingClient, resuming } from './reconnect.ts';

const RETRY_MS = 50;
const soon = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));

const bearer = async (token) => (token ? { authorization: `Bearer ${await token()}` } : {});
const socketUrl = (url) => url.replace('http', 'ws');

/** The client of the examples. With tokens, it is set up as their comment on `connectionParams` says. */
function socket(url, token) {
  if (!token) return createReconnectingClient(socketUrl(url), () => {});
  return resuming(
    createSocketClient({
      url: socketUrl(url),
      retryAttempts: Infinity,
      shouldRetry: () => true,
      retryWait: soon,
      connectionParams: () => bearer(token),
    }),
  );
}

function apollo(link) {
  const client = new ApolloClient({ link, cache: new InMemoryCache(), defaultOptions: { query: { fetchPolicy: 'no-cache' } } });
  return {
    async request(query, variables) {
      const document = gql(query);
      const change = document.definitions[0].operation === 'mutation';
      const { data } = await (change ? client.mutate({ mutation: document, variables }) : client.query({ query: document, variables }));
      return data;
    },
    subscribe(query, variables, next, end) {
      client.subscribe({ query: gql(query), variables, fetchPolicy: 'no-cache' }).subscribe({
        next: ({ data }) => data && next(data.messages),
        error: end,
        complete: end,
      });
    },
  };
}

function urql(options) {
  const client = new Client({ preferGetMethod: false, requestPolicy: 'network-only', ...options });
  return {
    async request(query, variables) {
      const change = query.startsWith('mutation');
      const { data, error } = await (change ? client.mutation(query, variables) : client.query(query, variables)).toPromise();
      if (error) throw error;
      return data;
    },
    subscribe(query, variables, next, end) {
      let ended = false;
      const once = () => {
        if (ended) return;
        ended = true;
        subscription.unsubscribe();
        end();
      };
      const subscription = client.subscription(query, variables).subscribe(({ data, error }) => {
        // Look at errors first: a result with an error still has the message before it.
        if (error) setTimeout(once);
        else if (data) next(data.messages);
      });
    },
  };
}

/** A query or mutation by `fetch`, for the clients that only stream. */
async function post(url, token, query, variables) {
  const headers = { 'content-type': 'application/json', ...(await bearer(token)) };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}

export const adapters = {
  'apollo-websocket': (url, token) => apollo(new GraphQLWsLink(socket(url, token))),

  'apollo-multipart': (url, token) =>
    apollo(new SetContextLink(async () => ({ headers: await bearer(token) })).concat(new HttpLink({ uri: url }))),

  'urql-websocket'(url, token) {
    const client = socket(url, token);
    const forwardSubscription = ({ query = '', variables }) => ({
      subscribe(sink) {
        const stop = client.subscribe({ query, variables }, sink);
        // urql stops a query when it has its result. If `complete` comes in the same read, which in Node is the same task,
        // graphql-ws 6.4.2 counts the query as ended twice. Then it closes the socket while other subscriptions use it.
        return { unsubscribe: () => setTimeout(stop) };
      },
    });
    return urql({ url, exchanges: [subscriptionExchange({ enableAllOperations: true, forwardSubscription })] });
  },

  'urql-sse': (url, token) =>
    urql({
      url,
      exchanges: [fetchExchange],
      fetchSubscriptions: true,
      fetch: async (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...(await bearer(token)) } }),
    }),

  'graphql-sse'(url, token) {
    const client = createSseClient({ url, retryAttempts: Infinity, retry: soon, headers: () => bearer(token) });
    return {
      request: (query, variables) =>
        new Promise((resolve, reject) => {
          client.subscribe(
            { query, variables },
            { next: ({ data, errors }) => (errors ? reject(errors[0]) : resolve(data)), error: reject, complete() {} },
          );
        }),
      subscribe(query, variables, next, end) {
        let { after } = variables;
        // The client encodes its request again for each connection, and so calls the getter again.
        const renewed = { ...variables, get after() { return after; } };
        client.subscribe(
          { query, variables: renewed },
          {
            next({ data }) {
              if (!data) return;
              after = data.messages.cursor;
              next(data.messages);
            },
            error: end,
            complete: end,
          },
        );
      },
    };
  },

  // A package with what a browser has built in. In a browser the token would come from a cookie.
  'event-source': (url, token) => ({
    request: (query, variables) => post(url, token, query, variables),
    subscribe(query, variables, next, end) {
      const parameters = new URLSearchParams({ query, variables: JSON.stringify(variables) });
      const source = new EventSource(`${url}?${parameters}`, {
        fetch: async (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...(await bearer(token)) } }),
      });
      source.addEventListener('next', (event) => {
        const { data } = JSON.parse(event.data);
        if (data) next(data.messages);
      });
      source.addEventListener('complete', () => {
        source.close();
        end();
      });
      // After a lost connection it connects again by itself. After a refused one it stays closed.
      source.onerror = () => source.readyState === EventSource.CLOSED && end();
    },
  }),
};
