'use strict';

/* The applications of recordings 15 to 27: bridged calls, requests in dialogs and without, proxies. */
const {SDP, connect, play, uri} = require('./common');
const nothing = () => {};

const proxy = (target, options) => {
  const srf = connect();
  srf.invite((req) => srf.proxyRequest(req, target, options));
  srf.bye(nothing);
};

/* When one of two dialogs ends, the other does. */
const couple = ({uas, uac}) => {
  uas.on('destroy', () => uac.destroy());
  uac.on('destroy', () => uas.destroy());
};

play({
  '15': () => {
    const srf = connect();
    srf.invite(async(req, res) => {
      couple(await srf.createB2BUA(req, res, uri('bob', 32071), {
        proxyRequestHeaders: ['subject', 'X-Trace'],
        proxyResponseHeaders: ['X-Bob'],
        headers: {'X-Added': 'by-the-app'}
      }));
    });
  },

  '16': () => {
    const srf = connect();
    let calls = 0;
    srf.invite(async(req, res) => {
      calls += 1;
      try {
        await srf.createB2BUA(req, res, uri('bob', 32071), {
          proxyResponseHeaders: ['Retry-After'],
          passFailure: calls === 1
        });
      } catch {
        if (calls > 1) couple(await srf.createB2BUA(req, res, uri('bob', 32072)));
      }
    });
  },

  '17': () => {
    const srf = connect();
    srf.invite((req, res) => srf.createB2BUA(req, res, uri('bob', 32071)).catch(nothing));
  },

  '24': () => proxy(uri('bob', 32071), {remainInDialog: true}),
  '24-not-staying': () => proxy(uri('bob', 32071), {})
});
