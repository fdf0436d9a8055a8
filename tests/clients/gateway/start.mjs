// Starts Hive Gateway as its command line does: `hive-gateway proxy ENDPOINT --schema FILE` and `hive-gateway supergraph
// FILE`. The command line itself is not used, because its package takes 510 MB with all that it needs.
// Arguments: `proxy` or `supergraph`, the file, gateway.config.ts or "", and the server's /graphql. Prints its port.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { createGatewayRuntime } from '@graphql-hive/gateway-runtime';

const [mode, file, config, endpoint] = process.argv.slice(2);
const { gatewayConfig } = config ? await import(pathToFileURL(config)) : {};
const text = readFileSync(file, 'utf8');
const served = mode === 'proxy' ? { proxy: { endpoint }, schema: text } : { supergraph: text };
const server = createServer(createGatewayRuntime({ ...gatewayConfig, ...served, logging: 'warn' }));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
