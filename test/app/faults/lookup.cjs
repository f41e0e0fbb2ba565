// Given to the app by `node --require`: a resolver that is as slow as LOOKUP_DELAY says (milliseconds). It knows
// redis.test alone, which is this machine. Each look-up is a line of the output.
const dns = require('node:dns');
const { syncBuiltinESMExports } = require('node:module');

dns.lookup = (host, options, callback) => {
  process.stderr.write(`look-up of ${host}\n`);
  const found = [{ address: '127.0.0.1', family: 4 }];
  setTimeout(() => callback(null, options.all ? found : '127.0.0.1', 4), Number(process.env.LOOKUP_DELAY));
};
syncBuiltinESMExports();
