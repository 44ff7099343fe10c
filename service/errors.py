"""Every error that a caller or an operator can see, without a transport."""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """Base of all errors; ``code`` is stable and for machines, the text is for people."""

    code: str = "internal"

    def __str__(self) -> str:
        """Return the text; what is not UTF-8 in the name of a file is shown as escapes."""
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class InvalidRequest(ServiceError):
    """The request itself is wrong; sending it again unchanged cannot help."""

    code = "invalid_request"


class Unauthenticated(ServiceError):
    """The caller has shown no key or token, or none that counts; ``shown`` says which of both."""

    code = "unauthenticated"

    def __init__(self, text: str, *, shown: bool) -> None:
        """Keep beside the text whether anything was shown; the text never holds it."""
        super().__init__(text)
        self.shown = shown


class Forbidden(ServiceError):
    """The caller is known and may not do this, or asks in a way that is not allowed."""

    code = "forbidden"


class HostNotAllowed(ServiceError):
    """The Host header names an address that this server does not answer to."""

    code = "host_not_allowed"


class UnsupportedMediaType(ServiceError):
    """The body is of a kind or an encoding that this road does not take."""

    code = "unsupported_media_type"


class NotAcceptable(ServiceError):
    """The caller takes no answer of a kind that there is."""

    code = "not_acceptable"


class TooLarge(ServiceError):
    """The body, a tensor or a picture is over a stated limit."""

    code = "too_large"


class ModelNotFound(ServiceError):
    """No model, or no version or label of it, has this name."""

    code = "model_not_found"

    def __init__(self, name: str, version: int | None = None, *, label: str = "") -> None:
        """Name what was asked for, in the words that Triton's clients look for."""
        which = f"'{name}'" if version is None else f"'{name}' version {version}"
        if label:
            which = f"'{name}' label '{label}'"
        super().__init__(f"Request for unknown model: {which} is not found")


class NotInRepository(ServiceError):
    """A model that should be loaded is not on disk."""

    code = "model_not_found"

    def __init__(self, name: str) -> None:
        """Name the model, in the words of Triton's clients."""
        super().__init__(f"failed to load '{name}', no such model in the repository")


class LoadRefused(ServiceError):
    """A model on disk was tried and failed; what answered before still does."""

    code = "load_refused"

    def __init__(self, name: str, reasons: Mapping[int, str]) -> None:
        """Give the reason of every version that failed."""
        each = "; ".join(f"version {version}: {why}" for version, why in sorted(reasons.items()))
        super().__init__(f"failed to load '{name}', {each}")


class ControlDisabled(ServiceError):
    """Models may not be loaded or unloaded by request as the server was started."""

    code = "control_disabled"


class ModelNotReady(ServiceError):
    """The model is known but cannot answer now; the text says in which state it is."""

    code = "model_not_ready"


class Overloaded(ServiceError):
    """The queue is full; ``retry_after`` is the advised wait in whole seconds."""

    code = "overloaded"

    def __init__(self, text: str, *, retry_after: int = 1) -> None:
        """Keep the advised wait beside the text."""
        super().__init__(text)
        self.retry_after = retry_after


class QuotaExceeded(ServiceError):
    """A caller asks more than its share; ``retry_after`` is the advised wait in whole seconds."""

    code = "quota_exceeded"

    def __init__(self, text: str, *, retry_after: int = 1) -> None:
        """Keep the advised wait beside the text."""
        super().__init__(text)
        self.retry_after = retry_after


class DeadlineExceeded(ServiceError):
    """The answer was not there in the time that the caller or the server allows."""

    code = "deadline_exceeded"


class EngineFailure(ServiceError):
    """The model was run on valid input and failed."""

    code = "engine_failure"


class OutOfMemory(EngineFailure):
    """A run asked for more memory than there is; the process lives and answers others."""

    code = "out_of_memory"


class DeviceFull(Overloaded):
    """A run did not fit into the device's memory, nor did its halves; smaller ones will come."""

    code = "device_full"


class DeviceLost(ServiceError):
    """A device has failed for good as far as this process goes; another one may be fine."""

    code = "device_lost"


class AuditUnavailable(ServiceError):
    """The audit log cannot be written; what it must record is not done."""

    code = "audit_unavailable"


class ProcessEnded(ServiceError):
    """The process of a model that has one of its own ended in a run; another one is started."""

    code = "process_ended"


class NotBuilt(ServiceError):
    """The protocol knows this feature, this server does not have it."""

    code = "not_built"


class Refused(ServiceError):
    """A model that is not taken into service; `service.refusals` has the codes."""

    code = "refused"

    def __init__(self, text: str, code: str = "") -> None:
        """Keep which of all reasons it is, where that is more than the kind of error says."""
        super().__init__(text)
        self.code = code or type(self).code


class BundleError(Refused):
    """A model or bundle on disk is damaged, incomplete, unsafe or contradicts itself."""

    code = "invalid_bundle"


class FilesChanged(ServiceError):
    """The files of a version became others while it was loaded, so nothing is known of it."""

    code = "files_changed"


class VerificationFailed(Refused):
    """A model loaded, but does not do what its bundle promises."""

    code = "verification_failed"


class ProviderUnavailable(ServiceError):
    """A requested execution provider cannot be used on this machine."""

    code = "provider_unavailable"


class ConfigurationError(ServiceError):
    """The server was started with settings that cannot work."""

    code = "configuration"


class Quarantined(ServiceError):
    """A version is not loaded because it has ended its process too often."""

    code = "quarantined"


class ControlBroken(ServiceError):
    """What came over a control socket is not what the supervisor and its workers say."""

    code = "control_broken"


class Reported(ServiceError):
    """An error that another process has met, with its code and its text."""

    code = "reported"

    def __init__(self, code: str, text: str) -> None:
        """Take the other error's place."""
        super().__init__(text)
        self.code = code
