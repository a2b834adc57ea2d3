'use strict';

/* What the applications of all recordings share.
 *   node FILE SCENARIO HOST PORT SECRET PORTS
 * PORTS says, as JSON, which port stands for which recorded one.
 */
const readline = require('readline');
const Srf = require('drachtio-srf');
const [scenario, host, port, secret, ports] = process.argv.slice(2);

const awaited = new Map();
readline.createInterface({input: process.stdin}).on('line', (word) => {
  awaited.get(word)();
});
process.on('SIGTERM', () => process.exit(0));

/* The port that stands for a recorded one. */
exports.port = (recorded) => JSON.parse(ports)[recorded];
exports.uri = (user, recorded) => `sip:${user}@127.0.0.1:${exports.port(recorded)}`;
exports.secret = secret;

exports.SDP = [
  'v=0',
  'o=app 77 1 IN IP4 127.0.0.1',
  's=-',
  'c=IN IP4 127.0.0.1',
  't=0 0',
  'm=audio 32500 RTP/AVP 0 101',
  'a=rtpmap:0 PCMU/8000',
  'a=rtpmap:101 telephone-event/8000',
  'a=sendrecv',
  ''
].join('\r\n');

exports.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* Resolves when the test tells this word (Live.tell). */
exports.told = (word) => new Promise((resolve) => awaited.set(word, resolve));

/* Makes an Srf; it connects when the scenario has named its handlers. */
exports.connect = (tags, options) => {
  const srf = new Srf(tags);
  srf.on('connect', (err) => console.log(err ? `refused: ${err}` : 'connected'));
  srf.on('error', (err) => console.log(`error: ${err}`));
  setImmediate(() => srf.connect({host, port: parseInt(port), secret, ...options}));
  return srf;
};

/* Makes an Srf that listens at PORT. */
exports.listen = (options) => {
  const srf = new Srf();
  srf.on('listening', () => console.log('listening'));
  srf.on('error', (err) => console.log(`error: ${err}`));
  setImmediate(() => srf.listen({host, port: parseInt(port), secret, ...options}));
  return srf;
};

/* Runs the scenario that was asked for. */
exports.play = (scenarios) => scenarios[scenario]();
