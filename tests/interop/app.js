'use strict';

/* The application that SIPp calls, on the Node reference client; see app.py, its twin.
 *   node app.js HOST PORT SECRET
 */
const Srf = require('drachtio-srf');
const [host, port, secret] = process.argv.slice(2);

const SDP = [
  'v=0',
  'o=- 1700000000 1700000001 IN IP4 127.0.0.1',
  's=interop',
  'c=IN IP4 127.0.0.1',
  't=0 0',
  'm=audio 40000 RTP/AVP 0 101',
  'a=rtpmap:0 PCMU/8000',
  'a=rtpmap:101 telephone-event/8000',
  'a=sendrecv',
  ''
].join('\r\n');

const srf = new Srf();

srf.invite(async(req, res) => {
  const who = req.calledNumber;
  if (who === 'reject') return res.send(486);
  res.send(180);
  if (who === 'ring') return;
  try {
    const dialog = await srf.createUAS(req, res, {localSdp: SDP});
    /* without these two listeners this client does not notice a hold at all */
    dialog.on('hold', () => {});
    dialog.on('unhold', () => {});
    dialog.on('destroy', () => {});
    if (who === 'hangup') dialog.once('ack', () => dialog.destroy());
    if (who === 'tell') dialog.once('ack', () => dialog.request({method: 'INFO'}));
  } catch (err) {
    console.error(`failed: ${err.message || err}`);
  }
});
srf.options((req, res) => res.send(200, {headers: {'Accept': 'application/sdp'}}));

srf.on('connect', (err) => console.log(err ? `refused: ${err}` : 'connected'));
srf.on('error', (err) => console.error(`error: ${err}`));
srf.connect({host, port: parseInt(port), secret});
process.on('SIGTERM', () => process.exit(0));
