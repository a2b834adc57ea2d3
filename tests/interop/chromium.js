'use strict';

/* Two tabs of a real Chromium, each a phone (JsSIP) with the browser's own WebRTC:
 *   node chromium.js CHROMIUM URL PROFILE
 * Both register over the WebSocket URL, call each other through the application (webapp.py), hold,
 * resume, restart ICE, and hang up. Each step prints a line; the exit status says the rest.
 */
const http = require('http');
const {buildSync} = require('esbuild');
const {chromium} = require('playwright-core');

const [executablePath, url, profile] = process.argv.slice(2);
const REALM = 'drachtwist.example';
const PATIENCE = 30000;

const bundle = buildSync({
  entryPoints: [require.resolve('jssip')],
  bundle: true,
  format: 'iife',
  globalName: 'JsSIP',
  platform: 'browser',
  write: false
}).outputFiles[0].text;

/* Runs in the page: the phone, and what happened to it. */
function phone({name, url, realm}) {
  const ua = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(url)],
    uri: `sip:${name}@${realm}`,
    session_timers: false
  });
  const options = {
    mediaConstraints: {audio: true, video: false},
    pcConfig: {iceServers: []},
    rtcOfferConstraints: {offerToReceiveAudio: true}
  };
  window.events = [];
  window.session = null;
  const tell = (what) => window.events.push(what);
  ua.on('registered', () => tell('registered'));
  ua.on('registrationFailed', ({cause}) => tell(`not registered: ${cause}`));
  ua.on('newRTCSession', ({originator, session}) => {
    window.session = session;
    tell(`call from ${originator}`);
    session.on('hold', ({originator}) => tell(`hold by ${originator}`));
    session.on('unhold', ({originator}) => tell(`unhold by ${originator}`));
    session.on('reinvite', () => tell('reinvite'));
    session.on('confirmed', () => tell('confirmed'));
    session.on('failed', ({cause}) => tell(`failed: ${cause}`));
    session.on('ended', ({originator}) => tell(`ended by ${originator}`));
    if (originator === 'remote') session.answer(options);
  });
  window.phone = {
    call: (user) => void ua.call(`sip:${user}@${realm}`, options),
    hold: () => new Promise((done) => window.session.hold({}, () => done())),
    unhold: () => new Promise((done) => window.session.unhold({}, () => done())),
    restart: () => new Promise((done, failed) => window.session.renegotiate(
      {rtcOfferConstraints: {iceRestart: true}}, done) || failed(new Error('not now'))),
    hangUp: () => window.session.terminate(),
    held: () => window.session.isOnHold(),
    ufrag: (side) => /a=ice-ufrag:(\S+)/.exec(window.session.connection[side].sdp)[1],
    stop: () => ua.stop()
  };
  ua.start();
}

/* Runs in the page: packets that came in so far, and whether the pair of candidates is up. */
async function sound() {
  const stats = await window.session.connection.getStats();
  let packets = 0;
  let up = false;
  stats.forEach((one) => {
    if (one.type === 'inbound-rtp' && one.kind === 'audio') packets += one.packetsReceived;
    if (one.type === 'candidate-pair' && one.nominated && one.state === 'succeeded') up = true;
  });
  return {packets, up, state: window.session.connection.connectionState};
}

async function happens(page, what) {
  try {
    await page.waitForFunction((wanted) => {
      const at = window.events.indexOf(wanted);
      if (at < 0) return false;
      window.events.splice(0, at + 1);
      return true;
    }, what, {timeout: PATIENCE});
  } catch (error) {
    throw new Error(`no ${what}, but ${await page.evaluate(() => window.events.join(', '))}`);
  }
}

async function hears(page, what) {
  const {packets} = await page.evaluate(sound);
  await page.waitForFunction(async({sound, packets}) => {
    const now = await eval(`(${sound})()`);
    return now.up && now.state === 'connected' && now.packets > packets + 10;
  }, {sound: sound.toString(), packets}, {timeout: PATIENCE, polling: 100}).catch(async() => {
    throw new Error(`${what}: ${JSON.stringify(await page.evaluate(sound))}, after ${packets}`);
  });
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

async function call(caller, callee, name) {
  await caller.evaluate((user) => window.phone.call(user), name);
  await happens(callee, 'call from remote');
  await Promise.all([happens(caller, 'confirmed'), happens(callee, 'confirmed')]);
  await Promise.all([hears(caller, 'the caller hears'), hears(callee, `${name} hears`)]);
  console.log(`${name}: sound goes between them`);
}

async function holds(one, other, name) {
  await one.evaluate(() => window.phone.hold());
  await happens(other, 'hold by remote');
  await one.evaluate(() => window.phone.unhold());
  await happens(other, 'unhold by remote');
  await Promise.all([hears(one, 'after the hold'), hears(other, 'after the hold')]);
  console.log(`${name}: held and resumed`);
}

async function restarts(one, other, name) {
  const before = await one.evaluate(() => window.phone.ufrag('localDescription'));
  await other.evaluate(() => window.events.splice(0));
  await one.evaluate(() => window.phone.restart());
  const after = await one.evaluate(() => window.phone.ufrag('localDescription'));
  check(before !== after, 'ICE was not restarted');
  await happens(other, 'reinvite');
  const there = await other.evaluate(() => window.phone.ufrag('remoteDescription'));
  check(there === after, `the other side has ${there}, not ${after}`);
  await Promise.all([hears(one, 'after the restart'), hears(other, 'after the restart')]);
  for (const page of [one, other]) {
    const held = await page.evaluate(() => window.phone.held());
    check(!held.local && !held.remote, `on hold: ${JSON.stringify(held)}`);
    const events = await page.evaluate(() => window.events.filter((what) => /hold/.test(what)));
    check(events.length === 0, `an ICE restart: ${events}`);
  }
  console.log(`${name}: ICE restarted, nobody is on hold`);
}

async function main() {
  const server = http.createServer((request, response) => {
    const script = request.url === '/jssip.js';
    response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    response.end(script ? bundle : '<!doctype html><script src="/jssip.js"></script>');
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    permissions: ['microphone'],
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
      '--disable-background-networking', '--disable-component-update',
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
      '--allow-loopback-in-peer-connection', '--disable-features=WebRtcHideLocalIpsWithMdns'
    ]
  });
  const pages = {};
  for (const name of ['ann', 'bob']) {
    const page = pages[name] = await browser.newPage();
    page.on('pageerror', (error) => console.error(`${name}: ${error}`));
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    await page.evaluate(phone, {name, url, realm: REALM});
    await happens(page, 'registered');
    console.log(`${name} registered`);
  }
  const {ann, bob} = pages;
  for (const [caller, callee, name, quits] of [[ann, bob, 'bob', bob], [bob, ann, 'ann', bob]]) {
    await call(caller, callee, name);
    await holds(caller, callee, name);
    await holds(callee, caller, name);
    await restarts(caller, callee, name);
    await restarts(callee, caller, name);
    await quits.evaluate(() => window.phone.hangUp());
    await happens(quits, 'ended by local');
    await happens(quits === ann ? bob : ann, 'ended by remote');
    console.log(`${name}: over, ended by ${quits === caller ? 'the caller' : 'the callee'}`);
  }
  await browser.close();
  server.close();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
