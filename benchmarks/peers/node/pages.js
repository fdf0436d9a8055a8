// Mercurius on Fastify with graphql-jit: pages of a channel's history, from memory.
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { host, makeMessage, port } from './message.js'

const HELD = Number(process.env.PAGES_MESSAGES)
const messages = Array.from({ length: HELD }, (_, index) =>
  makeMessage({ channelId: 'general', author: `author ${index % 7}`, content: `message ${index} `.padEnd(120, 'x'), lane: 'a' }))

const app = Fastify()

app.register(mercurius, {
  schema: /* GraphQL */ `
    type Message { id: ID! channelId: ID! sequence: Int! author: String! content: String! lane: String provider: String
                   tokenCount: Int timestamp: String! }
    type Edge { cursor: String! node: Message! }
    type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
    type Connection { edges: [Edge!]! pageInfo: PageInfo! }
    type Channel { id: ID! messages(last: Int, before: String): Connection! }
    type Query { channel(id: ID!): Channel! }
  `,
  jit: 1,
  resolvers: {
    Query: { channel: (_, { id }) => ({ id }) },
    Channel: {
      messages: (_, { last, before }) => {
        const end = before == null ? HELD : Number(before) - 1
        const found = messages.slice(Math.max(0, end - last), end)
        return {
          edges: found.map((node) => ({ cursor: String(node.sequence), node })),
          pageInfo: {
            hasNextPage: end < HELD,
            hasPreviousPage: end > last,
            startCursor: String(found[0].sequence),
            endCursor: String(found.at(-1).sequence)
          }
        }
      }
    }
  }
})

app.listen({ port, host, backlog: 4096 })
