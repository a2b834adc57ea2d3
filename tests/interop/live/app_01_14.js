'use strict';

/* The applications of recordings 01 to 14: authentication, single legs. */
const {SDP, connect, play, sleep, told, uri} = require('./common');
const nothing = () => {};

play({
  '01': async() => {
    const srf = connect(['alpha', 'team-blue']);
    for (const verb of ['invite', 'register']) srf[verb](nothing);
    srf.options((req, res) => res.send(200));
    for (const verb of ['subscribe', 'message']) srf[verb](nothing);
    await told('add');
    srf.publish(nothing);
    await told('remove');
    srf.unregisterForMessages('message');
    await told('restore');
    srf.reregisterForMessages('message');
  },

  '04': () => {
    const srf = connect();
    srf.invite(async(req, res) => {
      res.send(180);
      await sleep(300);
      const dialog = await srf.createUAS(req, res, {localSdp: SDP});
      dialog.on('destroy', nothing);
    });
  },

  '06': () => {
    const srf = connect();
    srf.invite((req, res) => {
      res.send(486, 'Busy Right Now', {headers: {'Retry-After': '30'}});
    });
  },

  '09': () => {
    const srf = connect();
    srf.on('connect', async() => {
      const headers = {'X-Campaign': 'spring'};
      const dialog = await srf.createUAC(uri('bob', 32071), {callingNumber: 'app', localSdp: SDP, headers});
      await sleep(400);
      dialog.destroy();
    });
  }
});
