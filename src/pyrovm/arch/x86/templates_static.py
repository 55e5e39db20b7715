"""The static CPU templates of Firecracker, deprecated there and kept for its clients.

Each makes newer CPUs of one vendor look like one common older one, and is refused where the CPU is
of another vendor or of a model that the template was not made for.
"""

from __future__ import annotations

from pyrovm.abi.kvm import KVM_CPUID_FLAG_SIGNIFCANT_INDEX
from pyrovm.arch.x86.cpuid.table import AMD, INTEL
from pyrovm.arch.x86.template import TemplateError
from pyrovm.config.cpu_template import (
    BitMask,
    CpuidLeafModifier,
    CpuidRegisterModifier,
    CpuTemplate,
    MsrModifier,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrovm.arch.x86.cpuid.table import CpuidTable

# (family, model, stepping)
SKYLAKE = (6, 0x55, 4)
CASCADE_LAKE = (6, 0x55, 7)
ICE_LAKE = (6, 0x6A, 6)
MILAN = (25, 1, 1)

ARCH_CAPABILITIES = 0x10A
ALL_BITS = 2**64 - 1


# Bits of leaves: (leaf, subleaf) -> {register: (bits that are forced, what to)}.
_Leaves = dict[tuple[int, int], dict[str, tuple[int, int]]]

# What T2, T2S, T2CL and T2A hide alike: the signature becomes Haswell's (family 6, model 0x3f), and
# what came after Haswell goes, AVX-512 and its state components first.
_HASWELL: _Leaves = {
    (0x1, 0): {
        "eax": (0x0FFF3FFF, 0x000306F2),
        # DTES64 MONITOR DS-CPL VMX SMX EIST TM2 CNXT-ID SDBG xTPR PDCM DCA
        "ecx": (0x0004CDFC, 0),
        # off: PSN DS ACPI SS TM IA64 PBE; on: MCE MTRR
        "edx": (0xE8641080, 0x00001080),
    },
    (0x7, 0): {
        # off: SGX HLE RTM PQM MPX PQE RDSEED ADX CLFLUSHOPT CLWB PT SHA AVX512*; on: ERMS
        "ebx": (0xFFEFDA14, 0x00000200),
        # UMIP PKU OSPKE GFNI VAES VPCLMULQDQ LA57 RDPID SGX_LC AVX512*
        "ecx": (0x40415F5E, 0),
        # FSRM AVX512*
        "edx": (0x0000011C, 0),
    },
    (0xD, 0): {"eax": (0x000002F8, 0)},  # MPX, AVX-512, PKRU
    (0xD, 1): {"eax": (0x0000000E, 0)},  # XSAVEC, XGETBV with ECX 1, XSAVES
}

# Beyond that, so that instruction sets agree between T2CL's Intel and T2A's AMD.
_PARITY = {
    "ecx": (0x200001C0, 0),  # SSE4A MisAlignSse PREFETCHW MONITORX
    "edx": (0x07C00000, 0),  # MmxExt MMX FXSR FFXSR Page1GB
}

_T2 = _HASWELL | {
    (0x80000001, 0): {"ecx": (0x20000100, 0), "edx": (0x04000000, 0)},
    (0x80000008, 0): {"ebx": (0x00000200, 0)},  # WBNOINVD
}

_C3: _Leaves = {
    (0x1, 0): {
        "eax": (0x0FFF3FFF, 0x000306E4),  # Ivy Bridge
        # DTES64 MONITOR DS-CPL VMX TM2 CNXT-ID SDBG FMA xTPR PDCM MOVBE
        "ecx": (0x0040DD3C, 0),
        # off: PSN DS ACPI SS TM PBE; on: MCE MTRR
        "edx": (0xA8641080, 0x00001080),
    },
    (0x7, 0): {
        # SGX BMI1 HLE AVX2 BMI2 INVPCID RTM PQM MPX PQE RDSEED ADX CLFLUSHOPT CLWB PT SHA AVX512*
        "ebx": (0xFFAFDD3C, 0),
        # UMIP PKU OSPKE LA57 RDPID SGX_LC AVX512*
        "ecx": (0x4041481E, 0),
        "edx": (0x0000000C, 0),  # AVX512*
    },
    (0xD, 0): {"eax": (0x000002F8, 0)},
    (0xD, 1): {"eax": (0x0000000E, 0)},
    (0x80000001, 0): {"ecx": (0x00000120, 0), "edx": (0x04000000, 0)},  # LZCNT PREFETCHW; 1 GiB
}

_T2CL = _HASWELL | {
    (0x80000001, 0): _PARITY,
    (0x80000008, 0): {"ebx": (0x00000200, 0)},
}

_T2A = _HASWELL | {
    (0x80000001, 0): _PARITY,
    # off: CLZERO RstrFpErrPtrs WBNOINVD; on: IbrsPreferred IbrsSameMode
    (0x80000008, 0): {"ebx": (0x000C0205, 0x000C0000)},
}

# The same mitigations on every CPU, the weakest's: RSBA SKIP_L1DFL IF_PSCHANGE_MC_NO
# MISC_PACKAGE_CTLS ENERGY_FILTERING_CTL FB_CLEAR RRSBA GDS_NO RFDS_NO.
_T2S_MSRS = {ARCH_CAPABILITIES: (ALL_BITS, 0x0C0A0C4C)}

# Off is what is no mitigation: MCU_CONTROL MISC_PACKAGE_CTLS ENERGY_FILTERING_CTL DOITM
# FB_CLEAR_CTRL BHI_NO XAPIC_DISABLE_STATUS OVERCLOCKING_STATUS GDS_CTRL and reserved bits.
_T2CL_MSRS = {ARCH_CAPABILITIES: (0xFFFF_FFFF_E2F5_1E00, 0)}


# name -> vendor, models, leaves, MSRs
_TEMPLATES: dict[
    str, tuple[str, tuple[tuple[int, int, int], ...], _Leaves, dict[int, tuple[int, int]]]
] = {
    "C3": (INTEL, (SKYLAKE, CASCADE_LAKE, ICE_LAKE), _C3, {}),
    "T2": (INTEL, (SKYLAKE, CASCADE_LAKE, ICE_LAKE), _T2, {}),
    "T2S": (INTEL, (SKYLAKE, CASCADE_LAKE), _T2, _T2S_MSRS),
    "T2CL": (INTEL, (CASCADE_LAKE, ICE_LAKE), _T2CL, _T2CL_MSRS),
    "T2A": (AMD, (MILAN,), _T2A, {}),
}


def static_template(name: str, host: CpuidTable) -> CpuTemplate:
    """The template ``name`` (``C3 T2 T2S T2CL T2A``), for a host with the CPUID ``host``.

    Raises:
        TemplateError: there is none of that name, or it is not made for this CPU.
    """
    if name not in _TEMPLATES:
        raise TemplateError(f"Failed to get CPU template: Invalid static CPU template: {name}")
    vendor, models, leaves, msrs = _TEMPLATES[name]
    if host.vendor != vendor:
        raise TemplateError(
            "Failed to get CPU template: CPU vendor mismatched between actual CPU and CPU template."
        )
    if host.model not in models:
        raise TemplateError(
            "Failed to get CPU template: The current CPU model is not permitted to apply the CPU "
            "template."
        )
    return CpuTemplate(
        cpuid_modifiers=[
            CpuidLeafModifier(
                leaf=leaf,
                subleaf=subleaf,
                flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX if leaf in (0x7, 0xD) else 0,
                modifiers=[
                    CpuidRegisterModifier(register=register, bitmap=BitMask(filter=mask, value=to))
                    for register, (mask, to) in registers.items()
                ],
            )
            for (leaf, subleaf), registers in leaves.items()
        ],
        msr_modifiers=[
            MsrModifier(addr=address, bitmap=BitMask(filter=mask, value=to))
            for address, (mask, to) in msrs.items()
        ],
    )


def warning(name: str, host: CpuidTable) -> str:
    """What the log should say about this template on this CPU; empty where nothing."""
    if name == "C3" and host.model == SKYLAKE:
        return (
            "C3 on this CPU: ARCH_CAPABILITIES does not enumerate FBSDP_NO, PSDP_NO and "
            "SBDR_SSDP_NO, so the guest kernel does not mitigate MMIO stale data"
        )
    return ""
