/* eslint-disable */
import * as types from './graphql';
import type { TypedDocumentNode as DocumentNode } from '@graphql-typed-document-node/core';

/**
 * Map of all GraphQL operations in the project.
 *
 * This map has several performance disadvantages:
 * 1. It is not tree-shakeable, so it will include all operations in the project.
 * 2. It is not minifiable, so the string of a GraphQL query will be multiple times inside the bundle.
 * 3. It does not support dead code elimination, so it will add unused operations.
 *
 * Therefore it is highly recommended to use the babel or swc plugin for production.
 * Learn more about it here: https://the-guild.dev/graphql/codegen/plugins/presets/preset-client#reducing-bundle-size
 */
type Documents = {
    "\n  fragment MessageFields on Message {\n    id\n    sequence\n    cursor\n    author\n    content\n    timestamp\n  }\n": typeof types.MessageFieldsFragmentDoc,
    "\n  query History($channelId: ID!, $before: Cursor) {\n    channel(id: $channelId) {\n      id\n      headCursor\n      messages(last: 50, before: $before) {\n        edges {\n          cursor\n          node {\n            ...MessageFields\n          }\n        }\n        pageInfo {\n          hasPreviousPage\n          startCursor\n        }\n      }\n    }\n  }\n": typeof types.HistoryDocument,
    "\n  subscription Live($channelId: ID!, $after: Cursor!) {\n    messages(channelId: $channelId, after: $after) {\n      ...MessageFields\n    }\n  }\n": typeof types.LiveDocument,
    "\n  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {\n    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {\n      ...MessageFields\n    }\n  }\n": typeof types.PostDocument,
};
const documents: Documents = {
    "\n  fragment MessageFields on Message {\n    id\n    sequence\n    cursor\n    author\n    content\n    timestamp\n  }\n": types.MessageFieldsFragmentDoc,
    "\n  query History($channelId: ID!, $before: Cursor) {\n    channel(id: $channelId) {\n      id\n      headCursor\n      messages(last: 50, before: $before) {\n        edges {\n          cursor\n          node {\n            ...MessageFields\n          }\n        }\n        pageInfo {\n          hasPreviousPage\n          startCursor\n        }\n      }\n    }\n  }\n": types.HistoryDocument,
    "\n  subscription Live($channelId: ID!, $after: Cursor!) {\n    messages(channelId: $channelId, after: $after) {\n      ...MessageFields\n    }\n  }\n": types.LiveDocument,
    "\n  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {\n    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {\n      ...MessageFields\n    }\n  }\n": types.PostDocument,
};

/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 *
 *
 * @example
 * ```ts
 * const query = graphql(`query GetUser($id: ID!) { user(id: $id) { name } }`);
 * ```
 *
 * The query argument is unknown!
 * Please regenerate the types.
 */
export function graphql(source: string): unknown;

/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  fragment MessageFields on Message {\n    id\n    sequence\n    cursor\n    author\n    content\n    timestamp\n  }\n"): (typeof documents)["\n  fragment MessageFields on Message {\n    id\n    sequence\n    cursor\n    author\n    content\n    timestamp\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  query History($channelId: ID!, $before: Cursor) {\n    channel(id: $channelId) {\n      id\n      headCursor\n      messages(last: 50, before: $before) {\n        edges {\n          cursor\n          node {\n            ...MessageFields\n          }\n        }\n        pageInfo {\n          hasPreviousPage\n          startCursor\n        }\n      }\n    }\n  }\n"): (typeof documents)["\n  query History($channelId: ID!, $before: Cursor) {\n    channel(id: $channelId) {\n      id\n      headCursor\n      messages(last: 50, before: $before) {\n        edges {\n          cursor\n          node {\n            ...MessageFields\n          }\n        }\n        pageInfo {\n          hasPreviousPage\n          startCursor\n        }\n      }\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  subscription Live($channelId: ID!, $after: Cursor!) {\n    messages(channelId: $channelId, after: $after) {\n      ...MessageFields\n    }\n  }\n"): (typeof documents)["\n  subscription Live($channelId: ID!, $after: Cursor!) {\n    messages(channelId: $channelId, after: $after) {\n      ...MessageFields\n    }\n  }\n"];
/**
 * The graphql function is used to parse GraphQL queries into a document that can be used by GraphQL clients.
 */
export function graphql(source: "\n  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {\n    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {\n      ...MessageFields\n    }\n  }\n"): (typeof documents)["\n  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {\n    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {\n      ...MessageFields\n    }\n  }\n"];

export function graphql(source: string) {
  return (documents as any)[source] ?? {};
}

export type DocumentType<TDocumentNode extends DocumentNode<any, any>> = TDocumentNode extends DocumentNode<  infer TType,  any>  ? TType  : never;