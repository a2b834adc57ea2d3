'use strict';

/* The applications of recordings 15 to 27: bridged calls, requests in dialogs and without, proxies. */
const {connect, play, uri} = require('./common');
const nothing = () => {};

const proxy = (options) => {
  const srf = connect();
  srf.invite((req) => srf.proxyRequest(req, uri('bob', 32071), options));
  srf.bye(nothing);
};

play({
  '24': () => proxy({remainInDialog: true}),
  '24-not-staying': () => proxy({})
});
