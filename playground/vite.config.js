import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The page is served at /graphql and its assets under /playground/. With a relative base and that folder's name the
  // built page finds them without an absolute address, so it also works behind a proxy that adds a path prefix.
  base: './',
  build: {
    assetsDir: 'playground',
    // Monaco's editor is one chunk of 3 MB by its nature; nothing here can split it.
    chunkSizeWarningLimit: 4096,
    modulePreload: { polyfill: false },
  },
});
