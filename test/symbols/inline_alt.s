# What dwz makes: a supplementary file with a function, by hand as dwz is seldom installed. Its entry for
# the function is at 0x0c of .debug_info; see inline_alt_user.s.
	.section .debug_abbrev, "", @progbits
	.uleb128 1, 0x3c	# DW_TAG_partial_unit
	.byte 1
	.uleb128 0, 0
	.uleb128 2, 0x2e	# DW_TAG_subprogram
	.byte 0
	.uleb128 0x6e, 0xe	# DW_AT_linkage_name, DW_FORM_strp
	.uleb128 0x20, 0xb	# DW_AT_inline, DW_FORM_data1
	.uleb128 0, 0
	.byte 0
	.section .debug_info, "", @progbits
	.4byte 2f - 1f
1:	.2byte 4
	.4byte 0
	.byte 8
	.uleb128 1
	.uleb128 2
	.4byte 6
	.byte 1
	.byte 0
2:
	.section .debug_str, "MS", @progbits, 1
	.asciz "outer"
	.asciz "_ZN3alt5innerEi"
