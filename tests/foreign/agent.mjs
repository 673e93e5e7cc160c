// Calls an API again and again with what `certbind agent --dir` keeps, until there is a file `stop`; says how often.
import fs from 'node:fs';
import https from 'node:https';
import path from 'node:path';

function call(folder, ca, url) {
  // One look: the three files behind it belong together, whatever is renewed meanwhile.
  const look = path.join(folder, fs.readlinkSync(path.join(folder, '..data')));
  const read = (name) => fs.readFileSync(path.join(look, name), 'utf8');
  const headers = { authorization: `Bearer ${read('token')}` };
  const options = { ca: fs.readFileSync(ca), cert: read('tls.crt'), key: read('tls.key'), headers, agent: false };
  return new Promise((resolve, reject) => {
    https.get(url, options, (response) => resolve(response.resume().statusCode)).on('error', reject);
  });
}

let calls = 0;
while (!fs.existsSync('stop')) {
  const status = await call(process.env.TOKEN_DIR, process.env.CERTBIND_CA, process.env.API);
  if (status !== 200) throw new Error(`status ${status}`);
  calls += 1;
  await new Promise((resolve) => setTimeout(resolve, 20));
}
console.log(calls);
