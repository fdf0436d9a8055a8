"""GraphiQL as static files, in `dist/` beside this file. It holds no code: the server hands the files out."""
