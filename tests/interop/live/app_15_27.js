'use strict';

/* The applications of recordings 15 to 27: bridged calls, requests in dialogs and without, proxies. */
const {createHash} = require('crypto');
const {SDP, connect, play, told, uri} = require('./common');
const nothing = () => {};
const md5 = (...parts) => createHash('md5').update(parts.join(':')).digest('hex');

const proxy = (target, options) => {
  const srf = connect();
  srf.invite((req) => srf.proxyRequest(req, target, options));
  srf.bye(nothing);
};

const bob = (...ports) => ports.map((port) => uri('bob', port));

/* When one of two dialogs ends, the other does. */
const couple = ({uas, uac}) => {
  uas.on('destroy', () => uac.destroy());
  uac.on('destroy', () => uas.destroy());
};

/* Answers calls, and goes on with their dialogs. */
const answer = (talk) => {
  const srf = connect();
  srf.invite((req, res) => {
    srf.createUAS(req, res, {localSdp: SDP}, (err, dialog) => {
      dialog.on('destroy', nothing);
      talk(dialog);
    });
  });
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

  '18': () => answer((dialog) => {
    const change = (version, port) => dialog.modify(
      SDP.replace('77 1', `77 ${version}`).replace('32500', `${port}`)
    );
    let acks = 0;
    dialog.on('hold', nothing);
    dialog.on('unhold', nothing);
    dialog.on('ack', async() => {
      acks += 1;
      if (acks < 3) return;
      await change(2, 32600);
      await change(3, 32700).catch(nothing);
    });
  }),

  '19': () => answer((dialog) => {
    dialog.on('info', (req, res) => {
      res.send(200, {headers: {'Content-Type': 'text/plain', 'X-Seen': 'yes'}, body: 'got it'});
    });
    dialog.on('message', (req, res) => res.send(202));
    dialog.on('update', async(req, res) => {
      res.send(200, {body: SDP});
      const ask = (method, type, body) => dialog.request(
        {method, headers: type ? {'Content-Type': type} : {}, body}
      );
      await ask('INFO', 'application/dtmf-relay', 'Signal=5\r\nDuration=160\r\n');
      await ask('MESSAGE', 'text/plain', 'hello there');
      await ask('OPTIONS');
      await ask('UPDATE', '', SDP.replace('77 1', '77 2'));
    });
  }),

  '20': () => {
    const srf = connect();
    const realm = 'drachtwist.test';
    const nonce = '84f1c1ae6cbe5ua9c8e88dfa3ecm3459';
    srf.register((req, res) => {
      if (!req.has('Authorization')) {
        const challenge = `Digest realm="${realm}", nonce="${nonce}", algorithm=MD5, qop="auth"`;
        return res.send(401, {headers: {'WWW-Authenticate': challenge}});
      }
      const given = {};
      for (const [, key, value] of req.get('Authorization').matchAll(/(\w+)="?([^",]+)/g)) given[key] = value;
      const secret = md5('alice', realm, 'sesame');
      const asked = md5('REGISTER', given.uri);
      const right = md5(secret, nonce, given.nc, given.cnonce, given.qop, asked);
      if (given.response !== right) return res.send(403);
      res.send(200, {headers: {
        'Contact': `${req.get('Contact')};expires=300`,
        'Expires': '300',
        'Date': 'Thu, 01 Jan 2026 00:00:00 GMT'
      }});
    });
  },

  '21': () => {
    const srf = connect();
    srf.options((req, res) => {
      res.send(200, {headers: {
        'Accept': 'application/sdp',
        'Allow': 'INVITE, ACK, BYE, CANCEL, OPTIONS',
        'Supported': '100rel'
      }});
      srf.request(uri('bob', 32071), {
        method: 'OPTIONS',
        headers: {'Subject': 'are you there', 'From': '<sip:monitor@127.0.0.1>'}
      });
    });
  },

  '22': () => {
    const srf = connect();
    const watch = () => srf.createUAC(uri('bob', 32071), {
      method: 'SUBSCRIBE',
      headers: {
        'Event': 'presence',
        'Expires': '60',
        'To': '<sip:bob@127.0.0.1>',
        'From': '<sip:watcher@127.0.0.1>',
        'Contact': '<sip:watcher@localhost>'
      }
    });
    srf.subscribe(async(req, res) => {
      const dialog = await srf.createUAS(req, res, {headers: {'Expires': '120'}});
      dialog.on('subscribe', (req, res) => res.send(200, {headers: {'Expires': '120'}}));
      dialog.on('unsubscribe', async() => {
        await dialog.destroy({headers: {'Subscription-State': 'terminated;reason=timeout'}});
        await told('sip SUBSCRIBE');
        watch();
      });
      dialog.request({
        method: 'NOTIFY',
        headers: {
          'Event': 'presence',
          'Subscription-State': 'active;expires=120',
          'Content-Type': 'application/pidf+xml',
          'Contact': dialog.local.contact
        },
        body: '<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:app@127.0.0.1"/>'
      });
    });
  },

  '23': () => answer((dialog) => {
    const tell = (state, status) => dialog.request({
      method: 'NOTIFY',
      headers: {
        'Event': 'refer',
        'Subscription-State': state,
        'Content-Type': 'message/sipfrag;version=2.0'
      },
      body: `SIP/2.0 ${status}\r\n`
    });
    dialog.on('refer', async(req, res) => {
      res.send(202);
      await tell('active;expires=60', '100 Trying');
      await tell('terminated;reason=noresource', '200 OK');
      dialog.request({
        method: 'REFER',
        headers: {'Refer-To': `<${uri('carol', 32073)}>`, 'Referred-By': '<sip:app@127.0.0.1>'}
      });
    });
  }),

  '24': () => proxy(uri('bob', 32071), {remainInDialog: true}),
  '24-not-staying': () => proxy(uri('bob', 32071), {}),

  '25': () => proxy(bob(32071, 32072, 32073), {
    forking: 'serial', provisionalTimeout: '1500ms', finalTimeout: '3s'
  }),

  '26': () => proxy(bob(32071, 32072), {forking: 'simultaneous'}),

  '27': () => connect().register((req, res) => res.send(200))
});
