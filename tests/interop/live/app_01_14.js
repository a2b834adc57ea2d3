'use strict';

/* The applications of recordings 01 to 14: authentication, single legs. */
const {SDP, connect, play, told, uri} = require('./common');
const nothing = () => {};

const call = (srf, to, options, callbacks) =>
  srf.createUAC(to, {callingNumber: 'app', localSdp: SDP, ...options}, callbacks);
const refused = (err) => console.log(`failed: ${err.status}`);
/* Calls, and hangs up unless the call fails. */
const talk = async(srf, to, options) => {
  try {
    const dialog = await call(srf, to, options);
    await dialog.destroy();
  } catch (err) {
    refused(err);
  }
};

play({
  '01': async() => {
    const srf = connect(['alpha', 'team-blue']);
    for (const verb of ['invite', 'register']) srf[verb](nothing);
    srf.options((req, res) => res.send(200));
    for (const verb of ['subscribe', 'message']) srf[verb](nothing);
    await told('route invite');
    srf.publish(nothing);
    await told('remove_route');
    srf.unregisterForMessages('message');
    await told('route invite');
    srf.reregisterForMessages('message');
  },

  '02': () => connect(),

  '03': () => {
    // The least interval that the client allows is 5 s; two of them are enough.
    global.setInterval = (ping) => [100, 200].forEach((ms) => setTimeout(ping, ms));
    connect([], {enablePing: true, pingInterval: 5000});
  },

  '04': () => {
    const srf = connect();
    srf.invite(async(req, res) => {
      res.send(180);
      const dialog = await srf.createUAS(req, res, {localSdp: SDP});
      dialog.on('destroy', nothing);
    });
  },

  '05': () => {
    const srf = connect();
    srf.invite((req, res) => {
      const options = {localSdp: SDP, headers: {'X-Greeting': 'hello'}};
      srf.createUAS(req, res, options, (err, dialog) => {
        dialog.on('ack', () => dialog.destroy({headers: {'X-Why': 'finished'}}));
      });
    });
  },

  '06': () => {
    const srf = connect();
    srf.invite((req, res) => {
      res.send(486, 'Busy Right Now', {headers: {'Retry-After': '30'}});
    });
  },

  '07': () => {
    const srf = connect();
    srf.invite((req, res) => {
      req.on('cancel', () => console.log('cancelled'));
      res.send(180);
    });
  },

  '08': () => {
    const srf = connect();
    srf.invite((req, res) => {
      const acknowledged = async() => {  // the client answers the PRACK by itself
        const dialog = await srf.createUAS(req, res, {localSdp: SDP});
        dialog.on('destroy', nothing);
      };
      res.send(183, {headers: {Require: '100rel'}, body: SDP}, nothing, acknowledged);
    });
  },

  '09': () => {
    const srf = connect();
    srf.on('connect', async() => {
      const dialog = await call(srf, uri('bob', 32071), {headers: {'X-Campaign': 'spring'}});
      dialog.destroy();
    });
  },

  '10': () => {
    const srf = connect();
    srf.on('connect', () => call(srf, uri('bob', 32071)).catch(refused));
  },

  '11': () => {
    const srf = connect();
    srf.on('connect', () => {
      let invite;
      const callbacks = {
        cbRequest: (err, req) => invite = req,
        cbProvisional: () => invite.cancel()
      };
      call(srf, uri('bob', 32071), {}, callbacks).catch(refused);
    });
  },

  '12': async() => {
    const right = {username: 'app', password: 'secret'};
    const srf = connect();
    for (const auth of [right, right, {username: 'app', password: 'wrong'}, undefined]) {
      await told('sip INVITE');
      await talk(srf, uri('bob', 32071), {auth});
    }
  },

  '13': () => {
    const srf = connect();
    srf.on('connect', async() => {
      await call(srf, uri('bob', 32079)).catch(refused);
      await call(srf, `${uri('bob', 32079)};transport=tcp`).catch(refused);
      await call(srf, uri('bob', 32078)).catch(refused);
    });
  },

  '14': async() => {
    const srf = connect();
    await told('sip INVITE');
    await talk(srf, uri('bob', 32071));
    await told('sip INVITE');
    await talk(srf, uri('bob', 32071), {followRedirects: true});
  }
});
