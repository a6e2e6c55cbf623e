# A program whose names are in inline_alt.s: DW_FORM_GNU_ref_alt and DW_FORM_GNU_strp_alt.
	.text
	.globl _start
_start:
	nop
.Linner:
	nop
	nop
.Linner_end:
	nop
.Lend:
	.section .debug_abbrev, "", @progbits
	.uleb128 1, 0x11	# DW_TAG_compile_unit
	.byte 1
	.uleb128 0x11, 0x1	# DW_AT_low_pc, DW_FORM_addr
	.uleb128 0x12, 0x7	# DW_AT_high_pc, DW_FORM_data8
	.uleb128 0, 0
	.uleb128 2, 0x2e	# DW_TAG_subprogram
	.byte 1
	.uleb128 0x3, 0x1f21	# DW_AT_name, DW_FORM_GNU_strp_alt
	.uleb128 0x11, 0x1
	.uleb128 0x12, 0x7
	.uleb128 0, 0
	.uleb128 3, 0x1d	# DW_TAG_inlined_subroutine
	.byte 0
	.uleb128 0x31, 0x1f20	# DW_AT_abstract_origin, DW_FORM_GNU_ref_alt
	.uleb128 0x11, 0x1
	.uleb128 0x12, 0x7
	.uleb128 0x59, 0xb	# DW_AT_call_line, DW_FORM_data1
	.uleb128 0, 0
	.byte 0
	.section .debug_info, "", @progbits
	.4byte 2f - 1f
1:	.2byte 4
	.4byte 0
	.byte 8
	.uleb128 1
	.8byte _start
	.8byte .Lend - _start
	.uleb128 2
	.4byte 0
	.8byte _start
	.8byte .Lend - _start
	.uleb128 3
	.4byte 0xc
	.8byte .Linner
	.8byte .Linner_end - .Linner
	.byte 42
	.byte 0
	.byte 0
2:
	.section .gnu_debugaltlink, "", @progbits
	.asciz "inline_alt.debug"
	.byte 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef
