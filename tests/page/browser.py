"""Steers the page of the admin door in a real Chromium, by clicks and by keys.

usage: browser.py DOOR TOKEN_FILE [FOLDER_FOR_PICTURES]

There is a weir at http://DOOR/ with the upstream `pool`, whose backends are `alpha` and `<b>beta</b>`,
both enabled. At the end `alpha` is disabled, and `<b>beta</b>` has the weight 7.
"""

import base64
import contextlib
import http.client
import json
import subprocess
import sys
import time

PATIENCE_S = 60
DOOR = sys.argv[1]
with open(sys.argv[2], encoding="ascii") as file:
    TOKEN = file.read().strip()
PICTURES = sys.argv[3] if len(sys.argv) > 3 else None
# Names of others are text, whatever they look like.
BETA = "<b>beta</b>"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900",
]


class Driver:
    """A browser, as WebDriver has it."""

    def __init__(self, cleanup):
        driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        cleanup.callback(driver.wait)
        cleanup.callback(driver.terminate)
        said = "started successfully on port "
        line = next(line for line in driver.stdout if said in line)
        self.port = int(line.split(said)[1].rstrip(".\n"))
        self.base = ""
        wanted = {
            "browserName": "chrome", "goog:chromeOptions": {"args": ARGUMENTS},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = self.say("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base = f"/session/{session['sessionId']}"
        cleanup.callback(self.say, "DELETE", "")

    def say(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        text = None if method != "POST" else json.dumps(body or {})
        connection.request(method, self.base + path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        value = json.load(answer)["value"]
        if answer.status != 200:
            raise AssertionError(f"{path}: {value['error']}: {value['message']}")
        return value

    def go(self):
        self.say("POST", "/url", {"url": f"http://{DOOR}/"})

    def run(self, script, *arguments):
        return self.say("POST", "/execute/sync", {"script": script, "args": arguments})

    def devtools(self, command, **parameters):
        self.say("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def find(self, selector):
        """The element, once it is there to be seen."""

        def look():
            for found in self.say("POST", "/elements", {"using": "css selector", "value": selector}):
                if self.say("GET", f"/element/{found[ELEMENT]}/displayed"):
                    return found[ELEMENT]
            return None

        return eventually(f"{selector} is shown", look)

    def click(self, selector):
        self.say("POST", f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        element = self.find(selector)
        self.say("POST", f"/element/{element}/clear")
        self.say("POST", f"/element/{element}/value", {"text": text})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ["keyDown", "keyUp"]]
        self.say("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def text(self, selector):
        """What is to be read there, or nothing."""
        return self.run("const it = document.querySelector(arguments[0]); return it ? it.innerText : ''", selector)

    def wait_text(self, selector, part):
        eventually(f"{selector} says {part}", lambda: part in self.text(selector), lambda: self.text(selector))

    def picture(self, name):
        if PICTURES:
            with open(f"{PICTURES}/{name}.png", "wb") as file:
                file.write(base64.b64decode(self.say("GET", "/screenshot")))


def eventually(what, look, otherwise=lambda: ""):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}; {otherwise()}")


def expect(what, condition):
    if not condition:
        raise AssertionError(what)


def status(name):
    """How weir has that backend."""
    connection = http.client.HTTPConnection(DOOR, timeout=PATIENCE_S)
    connection.request("GET", "/status.json")
    (pool,) = json.load(connection.getresponse())["upstreams"]
    return next(it for it in pool["backends"] if it["name"] == name)


def button(verb, name):
    return f"button[aria-label=\"{verb} {name}\"]"


def wait_administered(name, wanted):
    eventually(f"{name} is {wanted}", lambda: status(name)["administered"] == wanted, lambda: status(name))


SHOWN_ACTS = "return [...document.querySelectorAll('#upstreams .acts')].some(it => it.checkVisibility())"


def who_has_no_token_only_looks(page):
    page.go()
    page.wait_text("#upstreams", "alpha")
    page.wait_text("#upstreams", BETA)
    page.wait_text("#tiles", "2 of 2")
    expect("no button acts", not page.run(SHOWN_ACTS))
    page.type("#token", "not the token of this weir")
    page.click("#use")
    page.click(button("Drain", "alpha"))
    page.wait_text("#said", "the token was not taken")
    expect("nothing has changed", status("alpha")["administered"] == "enabled")
    page.click("#forget")
    eventually("the buttons go", lambda: not page.run(SHOWN_ACTS))


def clicks_steer(page):
    page.type("#token", TOKEN)
    page.click("#use")
    page.picture("light")
    page.click(button("Drain", "alpha"))
    page.wait_text("#said", "pool/alpha is draining, was enabled")
    wait_administered("alpha", "draining")
    page.wait_text("#tiles", "1 draining")
    page.wait_text("#log", "pool/alpha draining, was enabled")
    expect("its state is told to who cannot see", page.run(
        "return document.querySelector(arguments[0]).getAttribute('aria-pressed')", button("Drain", "alpha")) == "true")
    # The last one that takes sessions asks back, and so does a whole upstream.
    page.click(button("Disable", BETA))
    page.wait_text("#ask-text", "last backend of pool that takes new sessions")
    page.picture("dialog")
    page.click("#no")
    page.click(button("Drain all", "of pool"))
    page.wait_text("#ask-text", "all 2 backends")
    page.press(ESCAPE)
    eventually("the dialog is closed", lambda: not page.run("return document.querySelector('#ask').open"))
    expect("nothing has changed", status(BETA)["administered"] == "enabled")


def a_weight_is_given(page):
    page.click(button("Weight …", BETA))
    page.type("#weight", "65536")
    page.click("#yes")
    expect("that is none", page.run("return document.querySelector('#ask').open && "
                                    "!document.querySelector('#weight').validity.valid"))
    page.type("#weight", "7")
    page.click("#yes")
    page.wait_text("#said", "weight 7")
    eventually("it weighs that", lambda: status(BETA)["weight"] == 7)
    page.wait_text("#upstreams", "≠ the file: 1")


def keys_reach_everything(page):
    """From the top of the page on: TAB comes to each button, and ENTER acts."""
    page.run("document.activeElement.blur()")
    seen, shown = [], "return [...document.querySelectorAll('a,button,input')].filter(it => it.checkVisibility()).length"
    for _ in range(page.run(shown) + 10):
        page.press(TAB)
        at = page.run(
            "const it = document.activeElement, style = getComputedStyle(it);"
            "return [it.getAttribute('aria-label') || it.id || it.textContent, style.outlineStyle, it.tagName]"
        )
        seen.append(at[0])
        expect(f"one sees where one is: {at}", at[1] != "none" or at[2] == "BODY")
        if at[0] == "Enable alpha":
            page.press(ENTER)
            wait_administered("alpha", "enabled")
    wanted = ["To the content", "forget", "filter", "only", *(f"{verb} {name}" for name in ["alpha", BETA]
              for verb in ["Enable", "Drain", "Disable", "Weight …"])]
    missing = [it for it in wanted if it not in seen]
    expect(f"no key leads to {missing}: {seen}", not missing)
    wait_administered("alpha", "enabled")


# Of each text that is shown, how it stands out against what is behind it (WCAG 2.1, 1.4.3).
CONTRASTS = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(it => it / 255)
  .map(it => it <= .03928 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4)
  .reduce((sum, it, at) => sum + it * [.2126, .7152, .0722][at], 0);
const behind = node => {
  for (; node; node = node.parentElement) {
    const color = channels(getComputedStyle(node).backgroundColor);
    if (color.length < 4 || color[3]) return color;
  }
  return [255, 255, 255];
};
const out = {};
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some(it => it.nodeType === 3 && it.data.trim());
  if (!own || node.closest('svg') || !node.checkVisibility()) continue;
  const [a, b] = [channels(getComputedStyle(node).color), behind(node)].map(light);
  const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (contrast < 4.5) out[node.textContent.slice(0, 40)] = contrast;
}
return [out, light(behind(document.body))];
"""


def dark_and_light_can_be_read(page):
    lights = {}
    for scheme in ["light", "dark"]:
        page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        faint, lights[scheme] = page.run(CONTRASTS)
        expect(f"{scheme}: {faint} can hardly be read", not faint)
        page.picture(scheme + "-steered")
    expect(f"one is dark, one light: {lights}", lights["dark"] < 0.1 < 0.7 < lights["light"])


# What reaches beyond the right edge, but for what may be scrolled within.
BEYOND = """
const wide = document.documentElement.clientWidth;
return [document.documentElement.scrollWidth, wide, [...document.querySelectorAll('body *')]
  .filter(it => it.checkVisibility() && !it.closest('.sr,.skip,thead') && it.getBoundingClientRect().right > wide + 1)
  .map(it => it.tagName + ' ' + it.textContent.slice(0, 40))];
"""


def a_phone_shows_and_steers_it(page):
    page.devtools("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    page.wait_text("#upstreams", BETA)
    whole, wide, _ = page.run(BEYOND)
    expect(f"nothing is to be scrolled sideways: {whole} of {wide}", wide == 390 and whole <= wide)
    eventually("all that is drawn is within", lambda: not page.run(BEYOND)[2], lambda: page.run(BEYOND))
    small = page.run("return [...document.querySelectorAll('button,input')].filter(it => it.checkVisibility() && "
                     "it.getBoundingClientRect().height < 38).map(it => it.outerHTML)")
    expect(f"a finger does not hit {small}", not small)
    page.picture("phone-top")
    page.click(button("Disable", "alpha"))
    wait_administered("alpha", "disabled")
    page.picture("phone")
    page.devtools("Emulation.clearDeviceMetricsOverride")


def nothing_was_forbidden(page):
    logs = page.say("POST", "/se/log", {"type": "browser"})
    # That of the wrong token.
    logs = [it["message"] for it in logs if it["level"] == "SEVERE" and "401" not in it["message"]]
    expect(f"the browser complains: {logs}", not logs)


def without_scripts_it_can_be_read(page):
    page.devtools("Emulation.setScriptExecutionDisabled", value=True)
    page.go()
    # Scripts of the driver run all the same.
    plain = page.text("#plain")
    expect(plain, all(part in plain for part in ["pool", "alpha", BETA, "disabled"]))
    page.picture("plain")


def main():
    with contextlib.ExitStack() as cleanup:
        page = Driver(cleanup)
        for step in [
            who_has_no_token_only_looks, clicks_steer, a_weight_is_given, keys_reach_everything,
            dark_and_light_can_be_read, a_phone_shows_and_steers_it, nothing_was_forbidden,
            without_scripts_it_can_be_read,
        ]:
            step(page)
            print(f"{step.__name__}: ok", flush=True)


main()
