import { ApolloProvider } from '@apollo/client/react';
import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Page, channelFromAddress } from '../../ui';
import { Channel } from './Channel';
import { client } from './client';

function App() {
  const [epoch, setEpoch] = useState(0);
  // The server does not know the cursor any more: its log was replaced. So start again with the history.
  const startOver = () => void client.clearStore().then(() => setEpoch((epoch) => epoch + 1));
  return (
    <Page title="Apollo Client">
      <Channel key={epoch} channelId={channelFromAddress()} onReplaced={startOver} />
    </Page>
  );
}

createRoot(document.getElementById('app')!).render(
  <StrictMode>
    <ApolloProvider client={client}>
      <App />
    </ApolloProvider>
  </StrictMode>,
);
