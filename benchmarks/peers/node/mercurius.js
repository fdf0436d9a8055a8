// Mercurius on Fastify, as its documentation on subscriptions shows it. With --jit, graphql-jit compiles after the first run.
import Fastify from 'fastify'
import mercurius from 'mercurius'
import { hasFlag, host, makeMessage, port, typeDefs } from './message.js'

const app = Fastify()

app.register(mercurius, {
  schema: typeDefs,
  subscription: true,
  jit: hasFlag('--jit') ? 1 : 0,
  resolvers: {
    Query: { ready: () => true },
    Mutation: {
      postMessage: async (_, args, { pubsub }) => {
        const message = makeMessage(args)
        await pubsub.publish({ topic: args.channelId, payload: { messages: message } })
        return message
      }
    },
    Subscription: {
      messages: {
        subscribe: (_, { channelId }, { pubsub }) => pubsub.subscribe(channelId)
      }
    }
  }
})

app.listen({ port, host, backlog: 4096 })
