'use strict';

/* The applications of recordings 28 to 40: outbound connections, losses, odd messages. */
const fs = require('fs');
const {SDP, connect, listen, play, told, uri} = require('./common');
const nothing = () => {};
const NOTE = 'さくら 🌸 café – naïve ☎️';
const UTF8 = 'text/plain;charset=UTF-8';

/* Answers a call, and ends its connection with it. */
const once = (srf) => {
  srf.invite((req, res) => {
    srf.createUAS(req, res, {localSdp: SDP}, (err, dialog) => {
      dialog.on('info', (req, res) => res.send(200));
      dialog.on('destroy', async() => {
        await told('close');
        srf.endSession(req);
      });
    });
  });
};

/* Answers calls. */
const answering = () => {
  const srf = connect();
  srf.invite((req, res) => srf.createUAS(req, res, {localSdp: SDP}));
  return srf;
};

play({
  '28': () => once(listen()),

  '29': () => {
    const tls = {key: fs.readFileSync('key.pem'), cert: fs.readFileSync('certificate.pem')};
    once(listen({tls}));
  },

  '32': answering,
  '32-ringing': () => connect().invite((req, res) => res.send(180)),
  '33': answering,

  '34': () => {
    const srf = connect();
    srf.on('connect', async() => {
      const {ack} = await srf.createUAC(uri('bob', 32071), {callingNumber: 'app', noAck: true});
      const dialog = await ack(SDP);
      dialog.destroy();
    });
  },

  '35': async() => {
    const srf = connect();
    srf.invite((req, res) => {
      const localSdp = SDP.replace('s=-', 's=桜 🌸');
      srf.createUAS(req, res, {localSdp, headers: {'X-Note': NOTE}}, (err, dialog) => {
        dialog.on('message', (req, res) => {
          res.send(200, {headers: {'content-type': UTF8}, body: '受け取りました 👍'});
          const headers = {'Content-Type': UTF8, 'X-Note': NOTE};
          dialog.request({method: 'INFO', headers, body: 'ダイヤルトーン 🎵\r\n'});
        });
      });
    });
    await told('sip INVITE');
    const From = '"日本太郎" <sip:taro@localhost>';
    const options = {callingNumber: 'app', localSdp: SDP.replace('s=-', 's=通話'), headers: {From, Subject: NOTE}};
    const dialog = await srf.createUAC(uri('bob', 32071), options);
    dialog.destroy();
    await told('sip MESSAGE');
    const headers = {From, 'Content-Type': UTF8};
    srf.request(uri('bob', 32071), {method: 'MESSAGE', headers, body: 'こんにちは 👋 – ¡hola!'});
  },

  '36': async() => {
    const srf = connect();
    await new Promise(setImmediate);  // until connecting: the order of routes is that of hooks
    for (const record of ['attempt', 'start', 'stop']) srf.on(`cdr:${record}`, nothing);
    const bob = uri('bob', 32071);
    const localSdp = SDP;
    srf.invite((req, res) => {
      switch (req.calledNumber) {
        case 'busy': return res.send(486);
        case 'ring': return res.send(180);
        case 'proxy': return srf.proxyRequest(req, bob, {remainInDialog: true});
      }
      srf.createUAS(req, res, {localSdp}, (err, dialog) => {
        if (req.calledNumber === 'hangup') dialog.on('ack', () => dialog.destroy());
      });
    });
    await told('sip INVITE');
    const dialog = await srf.createUAC(bob, {callingNumber: 'app', localSdp});
    dialog.destroy();
    await told('sip INVITE');
    srf.createUAC(bob, {callingNumber: 'app', localSdp}).catch(nothing);
  },

  '39': async() => {
    const srf = answering();
    await told('sip INVITE');
    const boundary = 'unique-boundary-7';
    const localSdp = [
      `--${boundary}`,
      'Content-Type: application/sdp',
      'Content-Disposition: session;handling=required',
      '',
      `${SDP}--${boundary}`,
      'Content-Type: application/rs-metadata+xml',
      'Content-Disposition: recording-session',
      '',
      '<?xml version="1.0" encoding="UTF-8"?>',
      '<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode></recording>',
      `--${boundary}--`,
      ''
    ].join('\r\n');
    const headers = {'Content-Type': `multipart/mixed;boundary=${boundary}`, Require: 'siprec'};
    const dialog = await srf.createUAC(uri('bob', 32071), {callingNumber: 'app', localSdp, headers});
    dialog.destroy();
  },

  '40': () => {
    const srf = connect();
    srf.invite((req, res) => {
      res.send(180);
      srf.createUAS(req, res, {localSdp: SDP}, (err, dialog) => {
        dialog.on('info', async(req, res) => {
          // SIPp accepts no response before it has sent what comes behind it.
          await told('sip 200 INFO');
          res.send(200);
        });
      });
    });
  }
});
