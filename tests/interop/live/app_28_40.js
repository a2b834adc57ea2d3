'use strict';

/* The applications of recordings 28 to 40: outbound connections, losses, odd messages. */
const fs = require('fs');
const {SDP, connect, listen, play, sleep} = require('./common');

/* Answers a call, and ends its connection with it. */
const once = (srf) => {
  srf.invite(async(req, res) => {
    const dialog = await srf.createUAS(req, res, {localSdp: SDP});
    dialog.on('info', (req, res) => res.send(200));
    dialog.on('destroy', async() => {
      await sleep(100);
      srf.endSession(req);
    });
  });
};

play({
  '28': () => once(listen()),

  '29': () => {
    const tls = {key: fs.readFileSync('key.pem'), cert: fs.readFileSync('certificate.pem')};
    once(listen({tls}));
  },

  '32': () => {
    const srf = connect();
    srf.invite((req, res) => srf.createUAS(req, res, {localSdp: SDP}));
  },

  '32-ringing': () => connect().invite((req, res) => res.send(180))
});
