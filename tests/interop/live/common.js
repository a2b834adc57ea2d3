'use strict';

/* What the applications of all recordings share.
 *   node FILE SCENARIO HOST PORT SECRET PORTS
 * PORTS says, as JSON, which port stands for which recorded one.
 */
const readline = require('readline');
const Srf = require('drachtio-srf');
const [scenario, host, port, secret, ports] = process.argv.slice(2);

/* What the test tells, and what is waited for: each n-th time that a word is told lets the n-th go
 * on that waits for it. */
const words = new Map();
const counts = new Map();
const nth = (kind, word) => {
  const count = (counts.get(kind + word) || 0) + 1;
  counts.set(kind + word, count);
  const key = `${count} ${word}`;
  if (!words.has(key)) {
    const it = {};
    it.come = new Promise((resolve) => it.comes = resolve);
    words.set(key, it);
  }
  return words.get(key);
};
readline.createInterface({input: process.stdin}).on('line', (word) => {
  // What came from the server before has been read by then (LiveTestCase.idle).
  if (word.startsWith('idle ')) setImmediate(() => console.log(`${word}.`));
  else nth('told ', word).comes();
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

/* Resolves when the test tells this word (LiveTestCase.tell). */
exports.told = (word) => nth('awaited ', word).come;

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
