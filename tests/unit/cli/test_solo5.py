"""The command line of ``pyrovm solo5``: the tender's syntax, and errors that name the word."""

import pytest

from pyrovm.cli import solo5


def test_an_image_alone_has_the_tenders_defaults():
    plan = solo5.parse(["image"])
    assert (plan.image, plan.arguments, plan.mem_size) == ("image", b"", 512 << 20)
    assert (plan.blocks, plan.block_sizes, plan.nets, plan.macs) == ({}, {}, {}, {})


def test_options_come_before_the_image_and_arguments_behind_it():
    plan = solo5.parse(
        [
            *("--mem=32", "--block:disk=a=b.img", "--block-sector-size:disk=4096"),
            *("--net:net0=tap0", "--net:net1=@7", "--net-mac:net0=2:0:0:0:0:aB"),
            *("--", "image", "--mem=1", "--", "x y"),
        ]
    )
    assert (plan.image, plan.arguments) == ("image", b"--mem=1 -- x y")
    assert plan.mem_size == 32 << 20
    assert (plan.blocks, plan.block_sizes) == ({"disk": "a=b.img"}, {"disk": 4096})
    assert plan.nets == {"net0": "tap0", "net1": "@7"}
    assert plan.macs == {"net0": bytes.fromhex("0200000000ab")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing IMAGE operand"),
        (["--"], "Missing IMAGE operand"),
        (["--mem=32"], "Missing IMAGE operand"),
        (["--mem", "32", "image"], "Invalid option: '--mem'"),
        (["--mem=3", "image"], "Malformed argument to --mem: '--mem=3'"),
        (["--mem=0", "image"], "a multiple of 2 from 2 to 4096"),
        (["--mem=4098", "image"], "a multiple of 2 from 2 to 4096"),
        (["--mem=-2", "image"], "a multiple of 2 from 2 to 4096"),
        (["--disk:a=b", "image"], "Invalid option: '--disk:a=b'"),
        (["--block=b", "image"], "Invalid option: '--block=b'"),
        (["--block:a", "image"], "Invalid option: '--block:a'"),
        (["--block:a=", "image"], "Invalid option: '--block:a='"),
        (["--block:a-b=x", "image"], "a device's name has 1 to 67 letters and digits"),
        (["--net:=x", "image"], "a device's name has 1 to 67 letters and digits"),
        (["--block:a=x", "--block:a=y", "image"], "'--block:a=y': a is attached to x already"),
        (["--net:a=x", "--net:a=y", "image"], "a is attached to x already"),
        (["--block-sector-size:a=600", "image"], "must be a power of two from 512 to 32768"),
        (["--block-sector-size:a=256", "image"], "must be a power of two from 512 to 32768"),
        (["--block-sector-size:a=65536", "image"], "must be a power of two from 512 to 32768"),
        (["--block-sector-size:a=x", "image"], "must be a power of two"),
        (["--net-mac:a=1:2:3:4:5", "image"], "a MAC address such as 02:00:00:00:00:01"),
        (["--net-mac:a=1:2:3:4:5:678", "image"], "a MAC address"),
        (["--net-mac:a=1:2:3:4:5:g", "image"], "a MAC address"),
    ],
)
def test_a_word_that_does_not_fit_is_named_with_how_to_do_it(capsys, words, message):
    assert solo5.main(words) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "usage: pyrovm solo5" in errors


def test_help_goes_to_standard_output(capsys):
    assert solo5.main(["--help"]) == 0
    assert capsys.readouterr().out == solo5.USAGE
