// The daemon's API. Addresses are relative to the page, wherever it is served.

export class Problem extends Error {
  constructor(status, told) {
    super(told.error);
    this.status = status;
    this.hint = told.hint || "";
  }
}

const GONE = { error: "the daemon does not answer", hint: "systemctl status chaosd" };

async function open(method, path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method, signal, headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError" || error.name === "TimeoutError") throw error;
    throw new Problem(0, GONE);
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => GONE));
  return answer;
}

export const get = async (path, signal) => (await open("GET", path, undefined, signal)).json();
export const text = async (path) => (await open("GET", path)).text();
export const post = async (path, body = {}) => (await open("POST", path, body)).json();

/** The records of a stream, one JSON document a line; the promise is kept once the daemon has begun to answer. */
export async function stream(path, signal) {
  const answer = await open("GET", path, undefined, signal);
  return lines(answer.body.pipeThrough(new TextDecoderStream()).getReader());
}

async function* lines(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
