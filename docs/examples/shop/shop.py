"""An order of a small shop: what `test_shop.py` tests."""

from cerebelum_nb import ApprovalRejectedError, foreach, sleep, step, wait_for_approval, workflow

FREE_SHIPPING_FROM = 50


class Bank:
    """Stands for the client of a real bank; tests put doubles in the place of what calls it."""

    def charge(self, amount, key):
        raise RuntimeError("this would move money")

    def refund(self, receipt):
        raise RuntimeError("this would move money")


bank = Bank()


@step
def price(inputs):
    total = sum(item["price"] * item["count"] for item in inputs["items"])
    return total if total >= FREE_SHIPPING_FROM else total + 5


@step
async def approve(price):
    if price <= 500:
        return "no need to ask"
    return await wait_for_approval("large order", data={"price": price}, timeout_ms="2d")


@step(effect="external", retries=2, retry_delay="1m")
def charge(price, approve, context):
    return bank.charge(price, key=context.idempotency_key)


@charge.on_rollback
def refund(charge):
    bank.refund(charge)


@step(retries=3, retry_delay="1h")
def pack(item, inputs):
    return f"{item['count']} x {item['name']}"


@step
async def remind(pack):
    await sleep("30d")
    return f"how was {', '.join(pack)}?"


@step
async def turned_down():
    return "sorry"


@workflow(on_failure="rollback")
def order(wf):
    wf.timeline(
        price >> approve >> charge >> foreach(pack, item="inputs.items", key=lambda item: item["name"]) >> remind
    )
    wf.diverge(from_step=approve, patterns={ApprovalRejectedError: turned_down})
