// A plain broadcast with `ws`, without GraphQL: one JSON.stringify for each message, and one send for each socket.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { host, makeMessage, port } from './message.js'

const channels = new Map()

function publish (body) {
  const message = makeMessage({
    channelId: body.channel_id,
    author: body.author,
    content: body.content,
    lane: body.lane,
    provider: body.provider,
    tokenCount: body.token_count
  })
  const { channelId, tokenCount, ...rest } = message
  const item = { channel_id: channelId, token_count: tokenCount, ...rest }
  const frame = JSON.stringify({ type: 'message', data: item })
  for (const socket of channels.get(channelId) ?? []) {
    if (socket.readyState === socket.OPEN) socket.send(frame)
  }
  return item
}

const server = createServer((request, response) => {
  if (request.method !== 'POST' || request.url !== '/api/messages') {
    response.writeHead(404).end()
    return
  }
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const answer = JSON.stringify({ success: true, message: publish(JSON.parse(Buffer.concat(chunks))) })
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) })
    response.end(answer)
  })
})

const sockets = new WebSocketServer({ noServer: true })

server.on('upgrade', (request, socket, head) => {
  const match = /^\/api\/ws\/([^/?]+)/.exec(request.url)
  if (!match) {
    socket.destroy()
    return
  }
  sockets.handleUpgrade(request, socket, head, (client) => {
    const members = channels.get(match[1]) ?? new Set()
    channels.set(match[1], members.add(client))
    client.on('close', () => members.delete(client))
    client.on('error', () => client.terminate())
  })
})

server.listen(port, host, 4096)
