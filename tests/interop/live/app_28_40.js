'use strict';

/* The applications of recordings 28 to 40: outbound connections, losses, odd messages. */
const {SDP, listen, play, sleep} = require('./common');

play({
  '28': () => {
    const srf = listen();
    srf.invite(async(req, res) => {
      const dialog = await srf.createUAS(req, res, {localSdp: SDP});
      dialog.on('info', (req, res) => res.send(200));
      dialog.on('destroy', async() => {
        await sleep(100);
        srf.endSession(req);
      });
    });
  }
});
