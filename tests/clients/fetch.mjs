// node's fetch, for test_plain_clients.py: asks each URL three times over kept connections, or once and hangs up after
// the first piece. Prints status, headers and body (base64) of each answer as JSON.
const { urls, headers, body, leave } = JSON.parse(process.argv[2]);
const answers = [];
for (const url of urls) {
  for (let number = 0; number < 3; number += 1) {
    const stop = new AbortController();
    const answer = await fetch(url, { method: "POST", headers, body, signal: stop.signal });
    if (leave) {
      await answer.body.getReader().read();
      stop.abort();
      break;
    }
    const bytes = Buffer.from(await answer.arrayBuffer());
    answers.push({ status: answer.status, headers: [...answer.headers], body: bytes.toString("base64") });
  }
}
console.log(JSON.stringify(answers));
