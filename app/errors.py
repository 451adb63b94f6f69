"""Errors that a caller can act on. Each has a status, a stable slug, and a sentence: what, where, what to do."""

from typing import Any


class Problem(Exception):
    """Something the caller can mend. `errors`, where given, lists every breach as {"location", "message"}."""

    # What a class's docstring says, in Chinese: the page of its type shows both.
    doc_zh = "请求有误，可由请求方改正。`errors`（如有）逐条列出位置与原因。"

    status = 400
    slug = "bad-request"
    title_en = "Bad request"
    title_zh = "请求有误"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class NotFound(Problem):
    """There is no such thing, or it is outside the caller's scope."""

    doc_zh = "没有此内容，或不在该密钥的可见范围内。"
    status, slug, title_en, title_zh = 404, "not-found", "Not found", "未找到"


class Conflict(Problem):
    """The change contradicts what is already there."""

    doc_zh = "该更改与现有数据矛盾。"
    status, slug, title_en, title_zh = 409, "conflict", "Conflict", "与现有数据冲突"


class Invalid(Problem):
    """The content is well-formed but breaks a rule; `errors` lists every breach."""

    doc_zh = "格式无误，但内容不合规则；`errors` 逐条列出。"
    status, slug, title_en, title_zh = 422, "invalid", "Invalid content", "内容不合规则"


class Unauthenticated(Problem):
    """No key, or one that is unknown, expired or revoked."""

    doc_zh = "没有密钥，或密钥不存在、已过期、已撤销。"
    status, slug, title_en, title_zh = 401, "unauthenticated", "Key required", "需要密钥"


class Forbidden(Problem):
    """The key is good but its role may not do this."""

    doc_zh = "密钥有效，但其角色无权进行此操作。"
    status, slug, title_en, title_zh = 403, "forbidden", "Not allowed", "无权操作"


class Unavailable(Problem):
    """A server this needs does not answer; nothing was changed."""

    doc_zh = "所需的服务器没有响应；未作任何更改。"
    status, slug, title_en, title_zh = 503, "unavailable", "Temporarily unavailable", "暂时不可用"
