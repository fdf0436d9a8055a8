import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// The app sends requests to its own origin. During development, Vite passes /graphql on to the server.
const server = process.env.RAQCOON_URL ?? 'http://127.0.0.1:8010';

export default defineConfig({
  plugins: [react()],
  server: { proxy: { '/graphql': { target: server, ws: true } } },
  preview: { proxy: { '/graphql': { target: server, ws: true } } },
});
