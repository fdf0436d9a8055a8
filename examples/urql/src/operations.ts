import { graphql } from './gql';

// Resuming needs `sequence` and `cursor`, the cache finds messages by `id`, and applying changes needs `revision`.
graphql(`
  fragment MessageFields on Message {
    id
    sequence
    cursor
    author
    content
    timestamp
    revision
    complete
    editedAt
    erasedAt
  }
`);

export const HISTORY = graphql(`
  query History($channelId: ID!, $before: Cursor) {
    channel(id: $channelId) {
      id
      headCursor
      changesCursor
      messages(last: 50, before: $before) {
        edges {
          cursor
          node {
            ...MessageFields
          }
        }
        pageInfo {
          hasPreviousPage
          startCursor
        }
      }
    }
  }
`);

export const LIVE = graphql(`
  subscription Live($channelId: ID!, $after: Cursor!) {
    messages(channelId: $channelId, after: $after) {
      ...MessageFields
    }
  }
`);

export const POST = graphql(`
  mutation Post($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String!) {
    postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) {
      ...MessageFields
    }
  }
`);

export const CHANGES = graphql(`
  subscription Changes($channelId: ID!, $after: Cursor!) {
    changes(channelId: $channelId, after: $after) {
      sequence
      cursor
      messageId
      kind
      revision
      piece
      content
      timestamp
    }
  }
`);

export const STOP = graphql(`
  mutation Stop($id: ID!) {
    completeMessage(id: $id) {
      ...MessageFields
    }
  }
`);

export const EDIT = graphql(`
  mutation Edit($id: ID!, $content: String!, $revision: Int!) {
    editMessage(id: $id, content: $content, revision: $revision) {
      ...MessageFields
    }
  }
`);

export const ERASE = graphql(`
  mutation Erase($id: ID!) {
    eraseMessage(id: $id) {
      ...MessageFields
    }
  }
`);
