'use strict';

/* JsSIP as browsers have it, on a WebSocket and a WebRTC for Node:
 *   node jssip.js FIRST_URL SECOND_URL CERTIFICATE
 * Ann registers over the first URL and Bob over the second; they call the application (webapp.py),
 * are called by it, and call each other. Each step prints a line; the exit status says the rest.
 */
const fs = require('fs');
const WebSocketOfNode = require('ws');
const wrtc = require('@roamhq/wrtc');
const JsSIP = require('jssip');

const [firstUrl, secondUrl, certificate] = process.argv.slice(2);
const REALM = 'drachtwist.example';
const ca = fs.readFileSync(certificate);

globalThis.window = globalThis;
globalThis.RTCPeerConnection = wrtc.RTCPeerConnection;
globalThis.RTCSessionDescription = wrtc.RTCSessionDescription;
globalThis.WebSocket = class extends WebSocketOfNode {
  constructor(url, protocols) {
    super(url, protocols, {ca, perMessageDeflate: true});
  }
};

function mediaStream() {
  return new wrtc.MediaStream([new wrtc.nonstandard.RTCAudioSource().createTrack()]);
}

function once(what, event, ...failures) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event}`)), 20000);
    what.once(event, (data) => {
      clearTimeout(timer);
      resolve(data);
    });
    for (const failure of failures) {
      what.once(failure, (data) => {
        clearTimeout(timer);
        reject(new Error(`${failure} instead of ${event}: ${data && data.cause}`));
      });
    }
  });
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function agent(name, url) {
  const ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(url)],
    uri: `sip:${name}@${REALM}`,
    session_timers: false
  });
  ua.on('newRTCSession', ({originator, session}) => {
    if (originator === 'remote') ua.emit('called', session);
  });
  return ua;
}

function call(ua, user, host = REALM) {
  return ua.call(`sip:${user}@${host}`, {mediaStream: mediaStream(), pcConfig: {iceServers: []}});
}

function answer(session) {
  session.answer({mediaStream: mediaStream(), pcConfig: {iceServers: []}});
}

function iceConnected(session) {
  const {connection} = session;
  return new Promise((resolve, reject) => {
    const look = () => {
      if (['connected', 'completed'].includes(connection.iceConnectionState)) resolve();
    };
    setTimeout(() => reject(new Error(`ICE is ${connection.iceConnectionState}`)), 20000).unref();
    connection.addEventListener('iceconnectionstatechange', look);
    look();
  });
}

function sendInfo(session, type, body) {
  const sent = once(session, 'newInfo').then(({info}) => once(info, 'succeeded', 'failed'));
  session.sendInfo(type, body);
  return sent;
}

async function calls(ua, name) {
  let session = call(ua, 'answer');
  await once(session, 'confirmed', 'failed');
  await sendInfo(session, 'application/dtmf-relay', 'Signal=7\r\nDuration=160\r\n');
  const tone = once(session, 'newDTMF');
  session.sendDTMF('5', {transportType: 'INFO'});
  const {originator, dtmf} = await tone;
  check(originator === 'local' && dtmf.tone === '5', 'the tone');
  const echo = await sendInfo(session, 'text/plain', 'ping');
  check(echo.response.body === 'ping', 'the response to INFO');
  const ended = once(session, 'ended', 'failed');
  session.terminate();
  await ended;
  console.log(`${name} called, sent INFO and hung up`);
  session = call(ua, 'hangup');
  const {originator: who, cause} = await once(session, 'ended', 'failed');
  check(who === 'remote' && cause === 'Terminated', `ended by ${who}: ${cause}`);
  console.log(`${name} called and was hung up on`);
  session = call(ua, 'nobody');
  const refused = await once(session, 'failed', 'confirmed');
  check(refused.message.status_code === 480, `status ${refused.message.status_code}`);
  console.log(`${name} was refused`);
}

async function isCalled(ua, name) {
  for (const text of ['wait', 'hang up']) {
    const called = once(ua, 'called');
    ua.sendMessage(`sip:back@${REALM}`, text);
    const session = await called;
    const confirmed = once(session, 'confirmed', 'failed');
    const ended = once(session, 'ended', 'failed');
    answer(session);
    await confirmed;
    if (text === 'wait') session.terminate();
    const {originator} = await ended;
    check(originator === (text === 'wait' ? 'local' : 'remote'), `ended by ${originator}`);
    console.log(`${name} was called: ${text}`);
  }
}

async function callEachOther(caller, callee, user, host) {
  const called = once(callee, 'called');
  const here = call(caller, user, host);
  const confirmed = once(here, 'confirmed', 'failed');
  const there = await called;
  const connected = once(there, 'confirmed', 'failed');
  answer(there);
  await Promise.all([confirmed, connected]);
  await Promise.all([iceConnected(here), iceConnected(there)]);
  console.log(`${user}@${host}: sound goes between them`);
  for (const [one, other] of [[here, there], [there, here]]) {
    const info = once(other, 'newInfo');
    one.sendInfo('text/plain', 'hello');
    check((await info).info.body === 'hello', 'the INFO');
    for (const change of ['hold', 'unhold']) {
      const changed = once(other, change);
      await new Promise((done) => check(one[change]({}, done), `no ${change}`));
      check((await changed).originator === 'remote', `the ${change}`);
    }
  }
  const over = [once(here, 'ended'), once(there, 'ended')];
  there.terminate();
  await Promise.all(over);
  console.log(`${user}@${host}: over`);
}

async function main() {
  const people = {ann: agent('ann', firstUrl), bob: agent('bob', secondUrl)};
  for (const [name, ua] of Object.entries(people)) {
    const registered = once(ua, 'registered', 'registrationFailed');
    ua.start();
    await registered;
    console.log(`${name} registered`);
    await calls(ua, name);
    await isCalled(ua, name);
  }
  await callEachOther(people.ann, people.bob, 'bob', REALM);
  await callEachOther(people.bob, people.ann, 'ann', `proxy.${REALM}`);
  for (const [name, ua] of Object.entries(people)) {
    const unregistered = once(ua, 'unregistered');
    ua.unregister();
    await unregistered;
    const gone = once(ua, 'disconnected');
    ua.stop();
    await gone;
    console.log(`${name} left`);
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
