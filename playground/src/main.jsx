import 'graphiql/setup-workers/vite';
import 'graphiql/style.css';
import './playground.css';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL } from 'graphiql';
import { createClient } from 'graphql-ws';
import { createRoot } from 'react-dom/client';
import firstTab from './first-tab.graphql?raw';

// The page has the same address as the endpoint.
const url = new URL(location.pathname, location.origin).href;

const fetcher = createGraphiQLFetcher({
  url,
  wsClient: createClient({
    url: url.replace(/^http/, 'ws'),
    retryAttempts: Infinity,
    shouldRetry: () => true,
    keepAlive: 10_000,
  }),
});

createRoot(document.getElementById('playground')).render(
  <GraphiQL fetcher={fetcher} defaultTabs={[{ query: firstTab }]} shouldPersistHeaders={false}>
    <GraphiQL.Logo>
      <a className="playground-logo" href="./">
        RAQCOON
      </a>
    </GraphiQL.Logo>
  </GraphiQL>,
);
