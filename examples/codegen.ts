import type { CodegenConfig } from '@graphql-codegen/cli';

const generates = (app: string) => ({
  [`${app}/src/gql/`]: {
    documents: [`${app}/src/**/*.{ts,tsx}`, `!${app}/src/gql/**`],
    preset: 'client' as const,
    config: {
      useTypeImports: true,
      enumsAsTypes: true,
      scalars: { Cursor: 'string', DateTime: 'string' },
    },
    presetConfig: { fragmentMasking: false },
  },
});

const config: CodegenConfig = {
  schema: '../schema/schema.graphql',
  generates: { ...generates('apollo'), ...generates('urql') },
};

export default config;
