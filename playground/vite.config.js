import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // The page is served at /graphql, and its files under /playground/. With a relative base and the name of that folder, the
  // built page finds its files without an absolute address. So it also works behind a proxy that adds a path.
  base: './',
  build: {
    assetsDir: 'playground',
    // Monaco's editor is one chunk of 3 MB, which cannot be split here.
    chunkSizeWarningLimit: 4096,
    modulePreload: { polyfill: false },
  },
});
